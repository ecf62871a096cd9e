/* The event source of the benchmark: S streams, R events a second each, written the way each contender reads.
 *
 *   produce -m append  -p 6399 -S 1000 -R 20 -d 5 -f owned.txt   the product's own scripts (see below)
 *   produce -m xadd | xaddpub | publish                          plain Redis streams, with or without PUBLISH
 *   produce -m post    -p 8600                                   HTTP POST to /pub/<stream> (Nchan)
 *   -B n   writes n events to every stream first, as fast as they are taken; -R 0 ends after that
 *   -b n   payloads per append while backfilling (append mode only)
 *   -R 0 -d n   in append mode: nothing but what keeps the leases, for n seconds
 *
 * Every event is one line of JSON with "seq" (from 1, per stream) and "ts" (wall clock, microseconds), which is what
 * the load client checks. `owned.txt`: the digest of APPEND, then a line per stream: two keys, token, epoch, next seq.
 * As a worker does, it EXTENDs what is due in a millisecond together, and renews each lease by an APPEND.
 * Everything is pipelined over one connection; the program ends when all of it has been answered, and prints how
 * many events it wrote and how far it fell behind its own clock. A refused append ends it with status 3.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum mode { APPEND, XADD, XADDPUB, PUBLISH, POST };
static const char *MODES[] = {"append", "xadd", "xaddpub", "publish", "post"};

struct stream { char *keys[2]; char *token; char *epoch; long next; long seq; double renew_at; };

static struct stream *streams;
static char append_digest[64];
static const double RENEW_EVERY_S = 2;  /* four times in a worker's lease */
static enum mode mode = XADD;
static int sock;
static char *out;                  /* `out_len` bytes behind `out_at` are not yet taken by the socket */
static size_t out_at, out_len, out_cap;
static long expected, answered;    /* answers that matter: see count() */

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static char *room(size_t size)  /* for so many bytes more, behind what is there */
{
    if (out_at + out_len + size > out_cap) {
        if (out_at) memmove(out, out + out_at, out_len);
        out_at = 0;
        if (out_len + size > out_cap / 2) {
            out_cap = (out_len + size) * 4;
            out = realloc(out, out_cap);
            if (!out) exit(1);
        }
    }
    return out + out_at + out_len;
}

static void put(const char *data, size_t len)
{
    memcpy(room(len), data, len);
    out_len += len;
}

static void putf(const char *form, ...)
{
    va_list args;
    char *at = room(4096);
    va_start(args, form);
    out_len += vsnprintf(at, 4096, form, args);
    va_end(args);
}

static size_t digits(char *to, unsigned long value)  /* printf would be half of what an event costs here */
{
    char text[24], *at = text + sizeof text;
    do *--at = '0' + value % 10; while (value /= 10);
    size_t len = text + sizeof text - at;
    memcpy(to, at, len);
    return len;
}

static void arg(const char *data, size_t len)  /* one bulk string of a Redis command */
{
    char *begin = room(len + 32), *at = begin;
    *at++ = '$';
    at += digits(at, len);
    *at++ = '\r'; *at++ = '\n';
    memcpy(at, data, len);
    at += len;
    *at++ = '\r'; *at++ = '\n';
    out_len += at - begin;
}

static void word(const char *text) { arg(text, strlen(text)); }

static void number(long value)
{
    char text[24];
    arg(text, digits(text, value));
}

/* Answers: Redis' are counted by the line that ends a command's reply in each mode; HTTP's by status lines. */
static void count(const char *data, size_t len)
{
    static char held[16];
    static size_t n;
    const char *mark = mode == POST ? "HTTP/1.1 2" : "+PONG";
    size_t size = strlen(mark);
    for (size_t i = 0; i < len; i++) {
        if (n == size) { memmove(held, held + 1, --n); }
        held[n++] = data[i];
        if (n == size && !memcmp(held, mark, size)) answered++;
    }
}

static void refused(const char *data, size_t len)
{
    static const char *words[] = {"fenced", "-ERR", "-EXECABORT", "NOSCRIPT", "-OOM", "$-1\r\n", "\r\nlost", "\r\ngone", "\r\nfinal", "\r\ngap"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (memmem(data, len, words[i], strlen(words[i]))) {
            fprintf(stderr, "refused: %.*s\n", (int)(len < 200 ? len : 200), data);
            exit(3);
        }
}

static void turn(int wait_ms)  /* write what can be written, read what has come */
{
    struct pollfd p = {.fd = sock, .events = POLLIN | (out_len ? POLLOUT : 0)};
    static char in[1 << 16];
    if (poll(&p, 1, wait_ms) <= 0) return;
    if (p.revents & POLLIN) {
        ssize_t got = recv(sock, in, sizeof in, MSG_DONTWAIT);
        if (got == 0) { fprintf(stderr, "connection closed\n"); exit(1); }
        if (got > 0) {
            if (mode == APPEND) refused(in, got);
            count(in, got);
        }
    }
    if (out_len && (p.revents & POLLOUT)) {
        ssize_t sent = send(sock, out + out_at, out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) { perror("send"); exit(1); }
        if (sent > 0) {
            out_len -= sent;
            out_at = out_len ? out_at + sent : 0;
        }
    }
}

static size_t payload(char *text, long seq)  /* of less than 256 bytes */
{
    static const char *said[] = {" the", " answer", " to", " your", " question", " is", " being", " streamed,"};
    char *at = text;
    at = stpcpy(at, "{\"type\":\"text-delta\",\"id\":\"t0\",\"delta\":\"");
    at = stpcpy(at, said[seq & 7]);
    at = stpcpy(at, "\",\"seq\":");
    at += digits(at, seq);
    at = stpcpy(at, ",\"ts\":");
    at += digits(at, (unsigned long)(now(CLOCK_REALTIME) * 1e6));
    at = stpcpy(at, "}");
    return at - text;
}

static struct stream *group[32];   /* what the next EXTEND is for */
static int grouped;

static size_t id(char *to, struct stream *s, long seq)
{
    char *at = stpcpy(to, s->epoch);
    *at++ = '-';
    return at + digits(at, seq) - to;
}

static void extend(int batch)  /* each grouped stream by so many payloads, all in one transaction */
{
    static char said[1 << 16];
    char name[64];
    if (!grouped) return;
    put("*1\r\n$5\r\nMULTI\r\n", 15);
    for (int i = 0; i < grouped; i++) {
        struct stream *s = group[i];
        char *key = s->keys[1], *at = said + id(said, s, s->next - 1);
        *at++ = ' ';
        at += id(at, s, s->next);
        for (int k = 0; k < batch; k++) {
            *at++ = '\n';
            size_t len = payload(at, ++s->seq);
            put("*6\r\n$4\r\nXADD\r\n", 14);
            word(key); word("NOMKSTREAM"); arg(name, id(name, s, s->next++)); word("d"); arg(at, len);
            at += len;
        }
        put("*3\r\n$7\r\nPUBLISH\r\n", 17);
        word(key); arg(said, at - said);
    }
    put("*1\r\n$4\r\nEXEC\r\n", 14);
    grouped = 0;
}

static void renew(struct stream *s, double at)  /* by an APPEND of nothing */
{
    putf("*%d\r\n", 3 + 2 + 5);
    word("EVALSHA"); word(append_digest); word("2");
    for (int k = 0; k < 2; k++) word(s->keys[k]);
    word(s->token); word(s->epoch); number(s->next); word("60000"); word("0");
    s->renew_at = at + RENEW_EVERY_S;
}

static void append(struct stream *s, int batch)
{
    double at = now(CLOCK_MONOTONIC);
    if (at >= s->renew_at) { extend(batch); renew(s, at); }
    group[grouped++] = s;
    if (batch > 1 || grouped == (int)(sizeof group / sizeof *group)) extend(batch);
}

static void event(int index, int batch)
{
    struct stream *s = &streams[index];
    char text[256], name[32], id[32], frame[512];
    if (mode == APPEND) {
        append(s, batch);
        return;
    }
    snprintf(name, sizeof name, "s:%d", index);
    int len = payload(text, ++s->seq);
    if (mode == POST) {
        putf("POST /pub/s:%d HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\n\r\n%s", index, len, text);
        expected++;
        return;
    }
    snprintf(id, sizeof id, "%ld-0", s->seq);
    if (mode != PUBLISH) {
        putf("*5\r\n");
        word("XADD"); word(name); word(id); word("d"); arg(text, len);
    }
    if (mode != XADD) {
        int size = snprintf(frame, sizeof frame, "id: %s\ndata: %s\n\n", id, text);
        putf("*3\r\n");
        word("PUBLISH"); word(name); arg(frame, size);
    }
}

static void keep_leases(int count_, double seconds)
{
    double until = now(CLOCK_MONOTONIC) + seconds, at;
    while ((at = now(CLOCK_MONOTONIC)) < until) {
        for (int i = 0; i < count_; i++)
            if (at >= streams[i].renew_at) renew(&streams[i], at);
        turn(1);
        if (!out_len) usleep(10000);
    }
}

static void settle(void)  /* until everything has been answered */
{
    double until = now(CLOCK_MONOTONIC) + 60;
    if (mode != POST) { put("*1\r\n$4\r\nPING\r\n", 14); expected++; }
    while ((out_len || answered < expected) && now(CLOCK_MONOTONIC) < until) turn(10);
}

static void read_owned(const char *path, int count_)
{
    FILE *file = fopen(path, "r");
    char keys[2][256], token[64], epoch[32];
    if (!file || fscanf(file, "%63s", append_digest) != 1) { perror(path); exit(2); }
    for (int i = 0; i < count_; i++) {
        struct stream *s = &streams[i];
        if (fscanf(file, "%255s %255s %63s %31s %ld", keys[0], keys[1], token, epoch, &s->next) != 5) { fprintf(stderr, "%s is too short\n", path); exit(2); }
        for (int k = 0; k < 2; k++) s->keys[k] = strdup(keys[k]);
        s->token = strdup(token);
        s->epoch = strdup(epoch);
        s->renew_at = now(CLOCK_MONOTONIC) + RENEW_EVERY_S * (i + 1) / count_;  /* not all at once */
    }
    fclose(file);
}

int main(int argc, char **argv)
{
    int port = 6379, count_ = 1, option, batch = 50;
    long backfill = 0, first = 1;
    double rate = 1, seconds = 1;
    const char *owned = NULL;
    while ((option = getopt(argc, argv, "m:p:S:R:d:B:b:f:s:")) != -1) switch (option) {
        case 'm': for (int i = 0; i < 5; i++) if (!strcmp(optarg, MODES[i])) mode = i; break;
        case 'p': port = atoi(optarg); break;
        case 'S': count_ = atoi(optarg); break;
        case 'R': rate = atof(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'B': backfill = atol(optarg); break;
        case 'b': batch = atoi(optarg); break;
        case 'f': owned = optarg; break;
        case 's': first = atol(optarg); break;
        default: return 2;
    }
    streams = calloc(count_, sizeof *streams);
    for (int i = 0; i < count_; i++) streams[i].seq = first - 1;
    if (mode == APPEND) read_owned(owned ? owned : "owned.txt", count_);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(sock, (struct sockaddr *)&to, sizeof to)) { perror("connect"); return 1; }

    int step = mode == APPEND ? batch : 1;
    for (long done = 0; done < backfill; done += step)
        for (int i = 0; i < count_; i++) {
            event(i, backfill - done < step ? (int)(backfill - done) : step);
            while (out_len > 1 << 16) turn(10);
        }
    extend(1);  /* a last batch of one has waited for company */
    if (backfill) settle();

    if (mode == APPEND && rate == 0) keep_leases(count_, seconds);
    long total = (long)(rate * count_ * seconds), done = 0;
    double begin = now(CLOCK_MONOTONIC), late = 0;
    while (done < total) {
        double at = now(CLOCK_MONOTONIC) - begin;
        long due = (long)(at * rate * count_);
        if (due > total) due = total;
        double behind = at - done / (rate * count_);
        if (behind > late) late = behind;
        for (; done < due && out_len < 1 << 20; done++) event((int)(done % count_), 1);
        extend(1);
        turn(1);  /* not 0: a Redis that cannot take more would have a source that spins beside it */
        if (!out_len) usleep(500);
    }
    settle();
    printf("{\"sent\":%ld,\"answered\":%ld,\"seconds\":%.3f,\"most_behind_ms\":%.1f}\n", total + backfill * count_,
           answered, now(CLOCK_MONOTONIC) - begin, late * 1000);
    return answered < expected;
}
