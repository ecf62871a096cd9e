"""The words: what each topic talks about, and what all of them share. Data only; prose.py makes sentences of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """One subject area; every tuple fills the sentence slot of its name."""

    name: str
    cues: tuple[str, ...]  # a prompt that has one of these words gets this topic
    subject: tuple[str, ...]
    does: tuple[str, ...]
    place: tuple[str, ...]
    folk: tuple[str, ...]
    tends: tuple[str, ...]
    thing: tuple[str, ...]
    title: tuple[str, ...]


RIVERS = Topic(
    name="rivers",
    cues=("river", "stream", "water", "bridge", "flow", "lake"),
    subject=(
        "the upper reach",
        "a slow current",
        "the brown water",
        "the side channel",
        "the spring flood",
        "the ford",
        "the backwater",
        "the narrow channel",
        "the mill leat",
    ),
    does=(
        "carries silt down to the flats",
        "finds the low field first",
        "bends where the clay gives way",
        "runs clear over gravel",
        "slackens under the alders",
        "keeps its own calendar",
        "gives back what it took in autumn",
        "divides around the island and meets again",
        "hums against the piers",
        "takes the short way to the sea",
        "lies flat as slate until the wind comes",
        "warms by a degree a week",
    ),
    place=("below the ford", "at the stone bridge", "along the Llŷn bank", "near the old landing", "by the reed beds"),
    folk=("the ferryman", "a surveyor", "the bridge keeper", "an eel fisher", "the river warden"),
    tends=(
        "marks the level on a post",
        "counts the boats twice",
        "moves the moorings up a ring",
        "watches the colour change",
        "listens for stones on the bed",
        "keeps a spare rope dry",
        "lends out the long pole",
    ),
    thing=("gauge post", "flat boat", "willow mat", "mooring ring", "sounding pole", "reed bundle"),
    title=("Where the current goes", "Reading the bank", "A river in four moods", "After the flood"),
)

MILLS = Topic(
    name="mills",
    cues=("mill", "flour", "bread", "wheel", "grain", "machine", "code", "engine"),
    subject=(
        "the old wheel",
        "the sluice board",
        "the upper stone",
        "the head race",
        "the oak gear",
        "the hopper",
        "the long belt",
        "the meal chute",
        "the iron shaft",
    ),
    does=(
        "turns before anyone is awake",
        "takes the strain without a sound",
        "lets through just enough water",
        "grinds finer when the air is dry",
        "shivers and then settles",
        "feeds the stones an even stream",
        "knocks once at every round",
        "wants oil more often than praise",
        "runs best with the gate half open",
        "keeps time better than the clock",
        "leaves a fine dust on every beam",
        "stops only for ice",
    ),
    place=("on the stone floor", "behind the weir", "in the Søby mill", "under the meal loft", "beside the tail race"),
    folk=("the miller", "an apprentice", "the millwright", "a carter", "the baker"),
    tends=(
        "writes the weight in a green ledger",
        "dresses the stones by lamplight",
        "greases the bearing with tallow",
        "rubs the flour between two fingers",
        "hangs the sacks away from the wall",
        "opens the gate by a hand",
        "sweeps the floor last",
    ),
    thing=("sluice board", "mill bill", "meal sack", "tallow tin", "brass bearing", "oak cog"),
    title=("Inside the mill", "Keeping the stones true", "From grain to flour", "What the wheel needs"),
)

TIDES = Topic(
    name="tides",
    cues=("tide", "sea", "ocean", "harbour", "harbor", "ship", "coast", "moon"),
    subject=(
        "the spring tide",
        "the ebb",
        "the first of the flood",
        "the swell",
        "slack water",
        "the tide race",
        "the neap tide",
        "the young flood",
        "the cold inflow",
    ),
    does=(
        "turns an hour later each day",
        "lifts every hull off the mud",
        "leaves ribs in the sand",
        "fills the creeks from behind",
        "follows the moon around the bay",
        "holds still for a few minutes",
        "brings driftwood to the same corner",
        "draws a dark line along the wall",
        "runs hardest at half time",
        "comes in over the flats faster than you walk",
        "carries the sound of bells a long way",
        "hides the rocks that matter",
    ),
    place=("off the north pier", "in Ærø sound", "on the long sandbar", "inside the breakwater", "at the lock gates"),
    folk=("the pilot", "the harbour keeper", "a cockle picker", "the lock hand", "the lighthouse clerk"),
    tends=(
        "checks the almanac against the stones",
        "doubles the stern lines",
        "chalks the hour on a slate",
        "waits for the buoy to swing",
        "calls the height across the basin",
        "rows out to read the staff",
        "lights the lamp early",
    ),
    thing=("tide slate", "brass lead", "stern line", "harbour lamp", "almanac", "channel buoy"),
    title=("Twice a day", "What the ebb leaves behind", "A short tide table", "Waiting for slack water"),
)

WEATHER = Topic(
    name="weather",
    cues=("weather", "rain", "wind", "snow", "storm", "cloud", "fog", "sun", "forecast"),
    subject=(
        "the west wind",
        "a bank of fog",
        "the first frost",
        "a thin high cloud",
        "the thunder",
        "the soft rain",
        "the sea breeze",
        "a late shower",
        "the clear night",
    ),
    does=(
        "comes over the ridge by noon",
        "thins as soon as the sun finds it",
        "silvers the roofs and is gone",
        "pushes the smoke back down",
        "stays longer than it was asked to",
        "smells of iron and wet hay",
        "backs to the south before it breaks",
        "draws mist out of the warm fields",
        "leaves the lower valley dry",
        "turns the gulls inland",
        "moves off while everyone looks at the clock",
        "lays dew on the wires",
    ),
    place=("over the estuary", "on the Höhe", "between the two hills", "above the tree line", "along the São coast"),
    folk=("the observer", "a shepherd", "the weather clerk", "the bell ringer", "a kite maker"),
    tends=(
        "taps the glass and nods",
        "brings the washing in early",
        "draws the clouds in pencil",
        "empties the rain gauge at nine",
        "turns the vane by hand and lets it go",
        "compares it with last year",
        "leaves the shutters ajar",
    ),
    thing=("rain gauge", "barometer", "wind vane", "cloud sketch", "frost cover", "signal cone"),
    title=("Reading the sky", "Before the front", "Notes from the hill station", "A forecast by hand"),
)

TOPICS = (RIVERS, MILLS, TIDES, WEATHER)

WHEN = (
    "before dawn",
    "after the equinox",
    "in the second week of March",
    "on a windless evening",
    "at the end of a dry month",
    "long past midnight",
    "when the frost lifts",
    "once the bells have stopped",
    "most mornings",
)
QUALITY = ("patient", "quiet", "ordinary", "careful", "uncertain", "slow", "honest", "cold", "plain")
SIGN = ("the sound", "the smell", "the colour", "the birds", "the way the smoke leans", "the silence", "the light")

SENTENCES = (
    "{When}, {subject} {does}.",
    "{Subject} {does}, and {folk} {tends}.",
    "{Place}, {subject} {does}.",
    "Nobody hurries {when}; {subject} {does} all the same.",
    "{Folk} {tends} {when}.",
    "You can tell by {sign}: {subject} {does}.",
    "It is {quality} work, but {folk} {tends}, and {subject} {does}.",
    "What looks {quality} {place} is often {quality} too, and {subject} {does}.",
    "By {clock} the gauge reads {level} m, and {subject} {does}.",
    "When {subject} {does}, {folk} {tends}.",
    "At {temp} °C the air {place} is {quality}, so {subject} {does}.",
    "Ask anyone {place} and you hear the same: {subject} {does}.",
    "{Subject} {does} — not loudly, but for long enough to matter.",
    "There is a {thing} {place}; {folk} {tends} beside it.",
    "Some call it {quality}, others call it {quality}, and still {subject} {does}.",
)
EMPHATIC = (
    "Keep an eye on the **{thing}**: {subject} {does}.",
    "The rule is simple: **{subject} {does}**, whatever the hour.",
    "A good *{thing}* lasts, even where {subject} {does}.",
    "In the notes this is called `{slug}`, because {folk} {tends}.",
)
THOUGHTS = (
    "The question touches on {topic}, so {sign} may be the place to start.",
    "First, what is known: {subject} {does}.",
    "It could matter that {folk} {tends}.",
    "That holds {place}, but does it hold {when}?",
    "A level of {level} m at {clock} would fit.",
    "Better to keep the answer {quality} and mention the {thing}.",
    "If {subject} {does}, the rest follows.",
    "An example {place} should make it clear.",
)

# Closing sentences by length: as many tokens as their key says, the leading space and the full stop included, so that
# an answer ends in a whole sentence at exactly the number of tokens that was asked for.
CLOSERS: dict[int, tuple[str, ...]] = {
    2: (" Listen.", " Enough."),
    3: (" Water remembers.", " Nothing hurries."),
    4: (" The mill turns.", " The tide waits."),
    5: (" The rest is weather.", " The ledger is closed."),
    6: (" The water finds its way.", " Tomorrow it all begins again."),
    7: (" That is how the day ends.", " The lamp goes out by itself."),
    8: (" Somewhere upstream it has started to rain.", " Nobody has ever seen it done twice."),
    9: (" The gauge will say the rest in time.", " What is left is the sound of water."),
    10: (" Come back in spring and read the post again.", " By then the boats will be back at anchor."),
    11: (" Whatever happens next will be written in the green book.",),
    12: (" Leave the gate as you found it and follow the towpath.",),
    13: (" There is nothing more to add until the wind goes round again.",),
    14: (" It has been like this for as long as anyone here can remember.",),
    15: (" If you stand still for a moment you can hear both of them working.",),
    16: (" And that is all there is to say about it before the light goes out.",),
}
