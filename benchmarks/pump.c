/* Asks questions on a schedule, whether or not the earlier ones are answered (open loop).
 *
 *   pump PORT CONNECTIONS QUESTIONS SCHEDULE OUT BASE DRAIN_MS
 *
 * QUESTIONS  lines: N or R, then a JSON object whose call_id is twelve '@', filled in with a
 *            number that no other call of this run has (N), or that of the call before (R);
 *            asked in turn, over and over. BASE is where the numbers begin.
 * DRAIN_MS   how long after the last call was due its answer is waited for.
 * SCHEDULE   uint64 little endian: nanoseconds after the start, rising, one a call.
 * OUT        int64 the start on CLOCK_MONOTONIC, then a `struct call` for each call.
 *
 * Each connection begins with a request that is no question and counts for nothing. It has one
 * question under way at most. A call that is due while every connection is busy waits for one: it
 * is marked as held, and its latency goes on counting from its due instant.
 *
 * A call is done when the last byte of its answer has come to the socket, by the kernel's own
 * stamp. So the pump need not be there when it comes: it never waits for answers. Waking it would be
 * work of the core that answers, up to an eighth of what a shed call costs, which no caller on a
 * machine of its own gives it to do.
 *
 * It sleeps until a call is due, 50 us at least, and goes before all else on its core where it may
 * (SCHED_FIFO): what runs there beside it, as a recorder does, has the rest of that core, a
 * sixteenth if need be. From who leaves others nothing for a second the kernel takes the core away
 * for 50 ms, and every call that is due meanwhile would seem to have waited as long.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_BYTES = 16384, QUESTION_BYTES = 4096, EVENTS = 256, ID_DIGITS = 12 };
static const char HELLO[] = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
enum { REST_NS = 50000, OWED_NS = 500000, OTHERS = 16 };
enum { HELD = 1, DEGRADED = 2, BLOCKED = 4, WARNED = 8 };

struct call {
    int64_t sent; /* ns after the start, -1: never */
    int64_t done; /* ns after the start, -1: not answered */
    uint16_t status;
    uint16_t flags;
    uint32_t connection;
};

struct question {
    const char *bytes;
    size_t length, id_at;
    int again;
};

struct connection {
    int fd;
    int64_t call; /* -1: idle */
    size_t held;
    char buffer[ANSWER_BYTES];
};

static struct sockaddr_in address;

static void fail(const char *what)
{
    fprintf(stderr, "pump: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t in_ns(struct timespec t)
{
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t instant(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return in_ns(t);
}

static int64_t now_ns(void)
{
    return instant(CLOCK_MONOTONIC);
}

static char *slurp(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(path);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*length + 1);
    if (!bytes || fread(bytes, 1, *length, file) != *length) fail(path);
    bytes[*length] = 0;
    fclose(file);
    return bytes;
}

static int open_connection(int epoll, uint32_t index)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return fd;
}

static void rest_until(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* What the socket holds, as recv has it; `came` is when the last of it did, in ns of CLOCK_REALTIME,
 * and stays as it is where the kernel does not say. */
static ssize_t receive(int fd, char *into, size_t most, int64_t *came)
{
    union {
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
        struct cmsghdr aligned;
    } said;
    struct iovec room = {.iov_base = into, .iov_len = most};
    struct msghdr message = {
        .msg_iov = &room, .msg_iovlen = 1, .msg_control = &said, .msg_controllen = sizeof said};
    ssize_t got = recvmsg(fd, &message, 0);
    struct cmsghdr *stamp = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (stamp && stamp->cmsg_level == SOL_SOCKET && stamp->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec t;
        memcpy(&t, CMSG_DATA(stamp), sizeof t);
        *came = in_ns(t);
    }
    return got;
}

/* The length of the whole answer at the start of the buffer, 0 while it is not known. */
static size_t answer_length(const char *buffer, size_t held)
{
    const char *end = memmem(buffer, held, "\r\n\r\n", 4);
    if (!end) return 0;
    for (const char *line = buffer; line < end; line = strstr(line, "\r\n") + 2)
        if (!strncasecmp(line, "content-length:", 15))
            return (size_t)(end + 4 - buffer) + strtoul(line + 15, NULL, 10);
    return (size_t)(end + 4 - buffer);
}

/* Wait for the first answer: the connection is then accepted, and what was due does not wait for
 * that. Who does not answer in time is asked all the same. */
static void greet(struct connection *to, int64_t patience)
{
    size_t whole = 0;
    to->held = 0;
    for (int64_t end = now_ns() + patience; now_ns() < end && (!whole || to->held < whole);) {
        struct pollfd wait = {.fd = to->fd, .events = POLLIN};
        if (poll(&wait, 1, 10) < 1) continue;
        ssize_t got = recv(to->fd, to->buffer + to->held, ANSWER_BYTES - 1 - to->held, 0);
        if (got <= 0 && errno != EAGAIN) return;
        if (got > 0) to->held += (size_t)got;
        to->buffer[to->held] = 0;
        whole = answer_length(to->buffer, to->held);
    }
}

int main(int count, char **words)
{
    struct sched_param before_others = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &before_others); /* who may not is late now and then */
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (count != 8) {
        fprintf(stderr, "usage: pump PORT CONNECTIONS QUESTIONS SCHEDULE OUT BASE DRAIN_MS\n");
        return 2;
    }
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(words[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    uint32_t connections = (uint32_t)atoi(words[2]);
    uint64_t base = strtoull(words[6], NULL, 10);
    int64_t drain = atoll(words[7]) * INT64_C(1000000);

    size_t length, questions = 0;
    char *text = slurp(words[3], &length);
    for (size_t at = 0; at < length; at++) questions += text[at] == '\n';
    struct question *asked = calloc(questions, sizeof *asked);
    char *line = text;
    for (size_t n = 0; n < questions; n++) {
        char *end = strchr(line, '\n'), *whole;
        *end = 0;
        int size = asprintf(&whole,
            "POST /v1/screen HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            "content-length: %zu\r\n\r\n%s", (size_t)(end - line - 1), line + 1);
        char *id = strstr(whole, "@@@@@@@@@@@@");
        if (size < 0 || size > QUESTION_BYTES || !id) {
            fprintf(stderr, "pump: line %zu of %s has no call_id of twelve @\n", n + 1, words[3]);
            return 2;
        }
        asked[n] = (struct question){whole, (size_t)size, (size_t)(id - whole), line[0] == 'R'};
        line = end + 1;
    }
    size_t calls;
    uint64_t *due = (uint64_t *)slurp(words[4], &calls);
    calls /= sizeof *due;
    struct call *record = calloc(calls, sizeof *record);
    struct connection *pool = calloc(connections, sizeof *pool);
    uint32_t *idle = calloc(connections, sizeof *idle);
    if (!record || !pool || !idle || !questions) fail("memory, or no question");
    for (size_t n = 0; n < calls; n++) record[n].sent = record[n].done = -1;

    int epoll = epoll_create1(0);
    for (uint32_t n = 0; n < connections; n++) {
        pool[n].fd = open_connection(epoll, n);
        if (pool[n].fd < 0) fail("connecting");
        pool[n].call = -1;
        idle[n] = n;
    }
    for (uint32_t n = 0; n < connections; n++)
        if (send(pool[n].fd, HELLO, sizeof HELLO - 1, MSG_NOSIGNAL) < 0) fail("a first request");
    for (uint32_t n = 0; n < connections; n++) greet(&pool[n], drain);
    /* Of the idle connections the one that came last goes first, as pools of HTTP clients have it:
     * a caller that is answered at once needs few, one that is kept waiting more and more. */
    uint32_t left = connections;
    size_t next = 0, settled = 0, unsent = 0;
    char question[QUESTION_BYTES];
    struct epoll_event events[EVENTS];
    int64_t start = now_ns() + 20000000, stop = (calls ? (int64_t)due[calls - 1] : 0) + drain;
    int64_t owed = 0, seen = 0; /* time to the others of this core, and up to when reckoned */
    int was_full = 0;

    while (settled < calls) {
        int64_t now = now_ns() - start;
        while (next < calls && (int64_t)due[next] <= now) {
            if (!left) {
                was_full = 1;
                break;
            }
            uint32_t chosen = idle[--left];
            struct connection *to = &pool[chosen];
            const struct question *what = &asked[next % questions];
            memcpy(question, what->bytes, what->length);
            char id[ID_DIGITS + 1];
            snprintf(id, sizeof id, "%012" PRIx64, base + next - (what->again && next ? 1 : 0));
            memcpy(question + what->id_at, id, ID_DIGITS);
            struct call *call = &record[next];
            call->sent = now;
            call->connection = chosen;
            call->flags = was_full ? HELD : 0;
            if (to->fd < 0) to->fd = open_connection(epoll, chosen);
            if (to->fd < 0 || send(to->fd, question, what->length, MSG_NOSIGNAL)
                                  != (ssize_t)what->length) {
                if (to->fd >= 0) close(to->fd);
                to->fd = -1;
                idle[left++] = chosen;
                settled++;
                unsent++;
            } else {
                to->call = (int64_t)next;
                to->held = 0;
            }
            next++;
            now = now_ns() - start;
        }
        if (next < calls && (int64_t)due[next] > now) was_full = 0;
        if (now > stop) break;
        int ready = epoll_wait(epoll, events, EVENTS, 0);
        int64_t after = now_ns() - start, real = instant(CLOCK_REALTIME) - after;
        for (int n = 0; n < ready; n++) {
            struct connection *from = &pool[events[n].data.u32];
            if (from->fd < 0) continue;
            int64_t came = real + after;
            ssize_t got = receive(from->fd, from->buffer + from->held,
                                  ANSWER_BYTES - 1 - from->held, &came);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (got <= 0) {
                close(from->fd);
                from->fd = -1;
                if (from->call >= 0) {
                    from->call = -1;
                    idle[left++] = events[n].data.u32;
                    settled++;
                }
                continue;
            }
            from->held += (size_t)got;
            from->buffer[from->held] = 0;
            size_t whole = answer_length(from->buffer, from->held);
            if (from->call < 0 || !whole || from->held < whole) continue;
            struct call *call = &record[from->call];
            call->done = came - real;
            call->status = (uint16_t)atoi(from->buffer + 9);
            if (strstr(from->buffer, "\"degraded\":true")) call->flags |= DEGRADED;
            if (strstr(from->buffer, "\"action\":\"block\"")) call->flags |= BLOCKED;
            if (strstr(from->buffer, "\"action\":\"warn\"")) call->flags |= WARNED;
            from->call = -1;
            idle[left++] = events[n].data.u32;
            settled++;
            /* What is due goes first: answers wait in their sockets, calls must not. Once calls
             * have to wait for connections each answer frees one, and none is to be put off. */
            if (!was_full && next < calls && left
                && (int64_t)due[next] <= now_ns() - start)
                break;
        }
        now = now_ns() - start;
        int64_t until = next < calls && left ? (int64_t)due[next] : now + !ready;
        if (ready == EVENTS) until = now;
        owed += (now - seen) / OTHERS;
        seen = now;
        if (owed > OWED_NS && until < now + owed) until = now + owed;
        if (until > now) {
            rest_until(start + (until > now + REST_NS ? until : now + REST_NS));
            seen = now_ns() - start;
            owed = owed > seen - now ? owed - (seen - now) : 0;
        }
    }
    FILE *out = fopen(words[5], "wb");
    if (!out || fwrite(&start, sizeof start, 1, out) != 1
        || fwrite(record, sizeof *record, calls, out) != calls || fclose(out)) fail(words[5]);
    if (unsent) fprintf(stderr, "pump: %zu calls could not be sent\n", unsent);
    return 0;
}
