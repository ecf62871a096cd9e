"""The chaos harness: a fleet of real processes, faults on a timetable, recording clients, and an offline checker."""
