/* The viewers of the benchmark: N connections to event streams, each checked and timed, in one process.
 *
 *   load -p 8600 -n 1000 -S 1000 -u /sse/%d -w 1.5 -d 4       live: events of 4 s after 1.5 s of warm-up
 *   load -p 8600 -n 200 -S 1 -u /sse/%d -e 5000               catch-up: until everybody has 5000 events
 *   load -p 8600 -n 5000 -u /sse/%d -i -d 10                  idle: connections only
 *   -H "Name: value"   a header more (repeatable)        -f n   the first event of everybody must have seq n
 *   -P body            POST that instead of a GET        -c n   most connections being opened at a time
 *   -t s               give up after so many seconds     SIGTERM ends the measuring early, with the report
 *
 * A mark in an event's data names it: "seq":N,"ts":T or #N@T (several in one event count as several), T being the
 * writer's wall clock in microseconds. Per connection the seqs must go up by one: what is missing is a gap, what comes
 * twice is a double. Prints `ready` when all are connected, `begin` and then `end` around what is measured, and one
 * JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { WAITING, OPENING, HEAD, BODY, OVER };

struct viewer {
    int fd, number, chunked, at_size;
    enum state state;
    size_t left;                   /* of the chunk under way */
    char *line;                    /* what came of the present line */
    size_t length, room;
    long last, seen;
    double began, done;
};

static int port = 8000, total = 1, streams = 1, most_opening = 128, first = -1, idle, epoll, opening;
static const char *url = "/sse/%d", *body;
static char headers[2048];
static double warm = 1, span = 5, patience = 60;
static long wanted;
static struct viewer *viewers;
static long ready, failed, closed, left, finished, gaps, doubles, wrong_first, bare;
static long events, reads, bytes;
static int measuring;
static volatile sig_atomic_t over;

/* Latencies in microseconds: 128 steps per doubling, so within two per cent. */
enum { STEPS = 128 };
static uint64_t buckets[64 * STEPS], slowest;

static double wall(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void note(uint64_t us)
{
    int shift = us < STEPS ? 0 : 64 - __builtin_clzll(us) - 7;
    buckets[shift ? shift * STEPS + (int)((us >> shift) - STEPS / 2) : (int)us]++;
    if (us > slowest) slowest = us;
}

static double percentile(double share)
{
    long sum = 0, enough = (long)(share * events);
    for (int i = 0; i < 64 * STEPS; i++) {
        sum += buckets[i];
        if (sum > enough) {
            int shift = i / STEPS;
            return (shift ? (double)((uint64_t)(i % STEPS + STEPS / 2) << shift) : i) / 1000;
        }
    }
    return slowest / 1000.0;
}

static void mark(struct viewer *v, long seq, uint64_t ts, uint64_t now)
{
    v->seen++;
    if (measuring) { events++; note(now > ts ? now - ts : 0); }
    if (v->last < 0 && first >= 0 && seq != first) wrong_first++;
    if (v->last >= 0 && seq <= v->last) { doubles++; return; }
    if (v->last >= 0) gaps += seq - v->last - 1;
    v->last = seq;
    if (wanted && v->seen == wanted) { v->done = wall(CLOCK_MONOTONIC); finished++; }
}

static void look(struct viewer *v, const char *data, size_t size, uint64_t now)  /* one line, NUL-terminated */
{
    const char *at, *end = data + size;
    if (size < 6 || memcmp(data, "data:", 5)) return;
    at = memmem(data, size, "\"seq\":", 6);
    if (at) {
        const char *stamp = memmem(at, end - at, "\"ts\":", 5);
        mark(v, atol(at + 6), stamp ? strtoull(stamp + 5, NULL, 10) : 0, now);
        return;
    }
    long before = v->seen;
    for (at = data; (at = memchr(at, '#', end - at)); at++) {
        char *rest;
        long seq = strtol(at + 1, &rest, 10);
        if (*rest == '@') mark(v, seq, strtoull(rest + 1, NULL, 10), now);
    }
    if (v->seen == before) bare++;
}

static void keep(struct viewer *v, const char *data, size_t size)
{
    if (v->length + size + 1 > v->room) {
        v->room = (v->length + size + 1) * 2;
        v->line = realloc(v->line, v->room);
        if (!v->line) exit(1);
    }
    memcpy(v->line + v->length, data, size);
    v->length += size;
    v->line[v->length] = 0;
}

static void take(struct viewer *v, const char *data, size_t size, uint64_t now)  /* bytes of the body, unchunked */
{
    while (size) {
        const char *newline = memchr(data, '\n', size);
        size_t part = newline ? (size_t)(newline - data) : size;
        keep(v, data, part);
        if (!newline) return;
        if (v->length && v->line[v->length - 1] == '\r') v->line[--v->length] = 0;
        look(v, v->line, v->length, now);
        v->length = 0;
        data += part + 1;
        size -= part + 1;
    }
}

static void unchunk(struct viewer *v, const char *data, size_t size, uint64_t now)
{
    while (size && v->chunked) {
        if (v->at_size) {          /* a size line, and the empty one that ends the chunk before it */
            char c = *data++;
            size--;
            int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
            if (digit >= 0) { v->left = v->left * 16 + digit; v->at_size = 2; }
            else if (c == '\n' && v->at_size == 2) v->at_size = 0;
            continue;
        }
        size_t part = size < v->left ? size : v->left;
        take(v, data, part, now);
        data += part;
        size -= part;
        v->left -= part;
        if (!v->left) v->at_size = 1;
    }
    if (size) take(v, data, size, now);
}

static void drop(struct viewer *v, long *count)
{
    close(v->fd);
    if (v->state < BODY) opening--;
    v->state = OVER;
    ++*count;
}

static void dial(struct viewer *v)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = v};
    v->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    v->state = OPENING;
    v->began = wall(CLOCK_MONOTONIC);
    opening++;
    if (v->fd < 0) { v->state = OVER; failed++; opening--; return; }
    setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(v->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) { drop(v, &failed); return; }
    epoll_ctl(epoll, EPOLL_CTL_ADD, v->fd, &event);
}

static void ask(struct viewer *v)
{
    char path[256], request[4096];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = v};
    snprintf(path, sizeof path, url, v->number % streams);
    int size = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s",
                        body ? "POST" : "GET", path, port, headers);
    if (body) size += snprintf(request + size, sizeof request - size, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    size += snprintf(request + size, sizeof request - size, "\r\n%s", body ? body : "");
    if (send(v->fd, request, size, MSG_NOSIGNAL) != size) { drop(v, &failed); return; }
    v->state = HEAD;
    epoll_ctl(epoll, EPOLL_CTL_MOD, v->fd, &event);
}

static void hear(struct viewer *v)
{
    static char in[1 << 18];
    ssize_t got = recv(v->fd, in, sizeof in, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { drop(v, v->state < BODY ? &failed : v->done > 0 ? &left : &closed); return; }
    uint64_t now = (uint64_t)(wall(CLOCK_REALTIME) * 1e6);
    if (measuring) { reads++; bytes += got; }
    if (v->state == BODY) { unchunk(v, in, got, now); return; }
    keep(v, in, got);
    char *end = strstr(v->line, "\r\n\r\n");
    if (!end) return;
    *end = 0;
    if (memcmp(v->line, "HTTP/1.1 20", 11)) { drop(v, &failed); return; }
    v->chunked = strcasestr(v->line, "transfer-encoding: chunked") != NULL;
    v->at_size = 1;
    v->state = BODY;
    opening--;
    ready++;
    size_t rest = v->line + v->length - (end + 4);
    char *early = malloc(rest + 1);
    memcpy(early, end + 4, rest);
    v->length = 0;
    if (rest) unchunk(v, early, rest, now);
    free(early);
}

static void turn(void)
{
    struct epoll_event happened[512];
    int count = epoll_wait(epoll, happened, 512, 10);
    for (int i = 0; i < count; i++) {
        struct viewer *v = happened[i].data.ptr;
        if (v->state == OPENING) {
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(v->fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error) drop(v, &failed); else ask(v);
        } else if (v->state == HEAD || v->state == BODY) hear(v);
    }
}

static void on_term(int number) { (void)number; over = 1; }

static void say(const char *text) { puts(text); fflush(stdout); }

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(double seconds, double since)
{
    long silent = 0, count = 0;
    double *times = calloc(total, sizeof *times);
    for (int i = 0; i < total; i++) {
        if (viewers[i].state == BODY && !viewers[i].seen && !idle) silent++;
        if (viewers[i].done > 0) times[count++] = (viewers[i].done - viewers[i].began) * 1000;
    }
    qsort(times, count, sizeof *times, by_time);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"ready\":%ld,\"failed\":%ld,\"closed\":%ld,\"silent\":%ld,\"seconds\":%.4f,\"events\":%ld,\"reads\":%ld,"
           "\"bytes\":%ld,\"gaps\":%ld,\"doubles\":%ld,\"wrong_first\":%ld,\"bare\":%ld,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"max_ms\":%.3f,\"done\":%ld,\"each_ms\":%.3f,\"last_ms\":%.3f,\"load_cpu_s\":%.3f}\n",
           ready, failed, closed, silent, seconds, events, reads, bytes, gaps, doubles, wrong_first, bare, percentile(.5),
           percentile(.99), slowest / 1000.0, finished, count ? times[count / 2] : 0,
           (wall(CLOCK_MONOTONIC) - since) * 1000, used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

int main(int argc, char **argv)
{
    int option, next = 0, told = 0;
    while ((option = getopt(argc, argv, "p:n:S:u:w:d:c:t:H:P:e:f:i")) != -1) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'n': total = atoi(optarg); break;
        case 'S': streams = atoi(optarg); break;
        case 'u': url = optarg; break;
        case 'w': warm = atof(optarg); break;
        case 'd': span = atof(optarg); break;
        case 'c': most_opening = atoi(optarg); break;
        case 't': patience = atof(optarg); break;
        case 'H': strncat(headers, optarg, 1024); strcat(headers, "\r\n"); break;
        case 'P': body = optarg; break;
        case 'e': wanted = atol(optarg); break;
        case 'f': first = atoi(optarg); break;
        case 'i': idle = 1; break;
        default: return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGTERM, on_term);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    viewers = calloc(total, sizeof *viewers);
    for (int i = 0; i < total; i++) viewers[i] = (struct viewer){.number = i, .last = -1};
    double since = wall(CLOCK_MONOTONIC), begin = 0, until = since + patience;
    if (wanted) { say("begin"); begin = since; measuring = 1; }
    for (;;) {
        while (next < total && opening < most_opening) dial(&viewers[next++]);
        turn();
        double now = wall(CLOCK_MONOTONIC);
        if (!told && ready + failed >= total) { say("ready"); told = 1; if (!wanted) until = now + warm + span + patience; since = wanted ? since : now; }
        if (over || now > until) break;
        if (wanted) { if (finished + failed + closed >= total) break; continue; }
        if (told && !begin && now >= since + warm) { say("begin"); begin = now; measuring = 1; }
        if (begin && now >= begin + span) break;
    }
    double seconds = wall(CLOCK_MONOTONIC) - begin;
    say("end");
    report(seconds, since);
    return 0;
}
