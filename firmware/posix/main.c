/* A device on a computer: the client over POSIX sockets, for tests and to try
 * things out. Plain ws:// alone; TLS belongs to a device's own stack.
 *
 *   cc -o device main.c ../mooring.c
 *   ./device ws://localhost:8080/v1/stream TOKEN
 *
 * It makes rows until SIGTERM or SIGINT, then waits up to 10 s for the server to
 * settle them, and says what came of them. Further arguments:
 *
 *   rate=10     rows a second        rows=0      end after so many; 0: never
 *   ring=65536  bytes                drop=0      1: drop the oldest when full
 *   frame=2048  bytes of a message   wait=0      come back after so many ms at most,
 *   linger=0    ms                               for tests; 0: as the protocol says
 *
 *   ledger=FILE device=NAME run=1 seed=1 channels=7: rows that fleet verify
 *   judges by that file, as ledger.h says; rate must divide 1000
 *
 * Without a ledger, too, every row is a function of its number, so that a test can
 * tell from the database alone whether it is right: layout "steady" has n = the number and
 * text = "r" and the number; every tenth call makes eight rows of layout "burst"
 * at once, packed, with n = the number modulo 30000. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../mooring.h"
#include "ledger.h"

#define BURST 8

struct line {
	struct addrinfo *addresses, *trying;
	int fd;
	bool connecting;
	FILE *random;
	const char *host, *port;
	struct ledger ledger;
};

static volatile sig_atomic_t ending;

static void on_signal(int number)
{
	(void)number;
	ending = 1;
}

static uint32_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

static void line_close(void *context, uint16_t code)
{
	struct line *line = context;
	(void)code;
	if (line->fd >= 0)
		close(line->fd);
	line->fd = -1;
	line->connecting = false;
}

/* line_open begins, and later asks, without waiting. */
static int line_open(void *context)
{
	struct line *line = context;
	if (!line->connecting) {
		struct addrinfo hints = {0};
		hints.ai_socktype = SOCK_STREAM;
		if (line->addresses == NULL && getaddrinfo(line->host, line->port, &hints, &line->addresses) != 0) {
			line->addresses = NULL;
			return -1;
		}
		if (line->trying == NULL)
			line->trying = line->addresses;
		line->fd = socket(line->trying->ai_family, SOCK_STREAM, 0);
		if (line->fd < 0)
			return -1;
		fcntl(line->fd, F_SETFL, O_NONBLOCK);
		line->connecting = true;
		if (connect(line->fd, line->trying->ai_addr, line->trying->ai_addrlen) == 0)
			return 1;
		if (errno != EINPROGRESS) {
			line->trying = line->trying->ai_next;
			return -1;
		}
		return 0;
	}
	struct pollfd ready = {line->fd, POLLOUT, 0};
	if (poll(&ready, 1, 0) == 0)
		return 0;
	int error = 0;
	socklen_t size = sizeof error;
	if (getsockopt(line->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
		line->trying = line->trying->ai_next;
		return -1;
	}
	line->connecting = false;
	return 1;
}

static int line_send(void *context, const uint8_t *bytes, size_t length)
{
	ssize_t sent = send(((struct line *)context)->fd, bytes, length, MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
	return (int)sent;
}

static int line_recv(void *context, uint8_t *bytes, size_t length)
{
	ssize_t got = recv(((struct line *)context)->fd, bytes, length, 0);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
	return got == 0 ? -1 : (int)got;
}

static uint32_t line_random(void *context)
{
	uint32_t number;
	if (fread(&number, sizeof number, 1, ((struct line *)context)->random) != 1)
		abort();
	return number;
}

static uint8_t line_command(void *context, const struct mooring_command *command)
{
	(void)context;
	fprintf(stderr, "command %.*s\n", (int)command->name_length, (const char *)command->name);
	if (command->name_length == 4 && memcmp(command->name, "ping", 4) == 0)
		return MOORING_DONE;
	return MOORING_UNKNOWN;
}

static void line_refused(void *context, uint64_t seq, uint32_t n, int channel, uint8_t code)
{
	struct line *line = context;
	if (line->ledger.file != NULL)
		ledger_refused(&line->ledger, seq, n, channel, code);
	fprintf(stderr, "refused seq=%llu n=%lu channel=%d code=%u\n", (unsigned long long)seq, (unsigned long)n, channel, code);
}

static const struct mooring_channel steady[] = {{"n", NULL, MOORING_NUMBER, 0}, {"text", NULL, MOORING_STRING, 0}};
static const struct mooring_channel burst[] = {{"n", NULL, MOORING_NUMBER, 0}};
static const struct mooring_layout layouts[] = {{"steady", steady, 2}, {"burst", burst, 1}};

/* make appends one row, or a burst; it returns how many numbers that took. */
static uint64_t make(struct mooring *m, uint64_t number, uint64_t call)
{
	if (call % 10 == 9) {
		int16_t numbers[BURST];
		for (uint64_t i = 0; i < BURST; i++)
			numbers[i] = (int16_t)((number + i) % 30000);
		mooring_append_packed(m, 1, MOORING_NOW, 1000, BURST, 2, numbers);
		return BURST;
	}
	char text[24];
	snprintf(text, sizeof text, "r%llu", (unsigned long long)number);
	struct mooring_value values[2];
	values[0] = mooring_int((int32_t)number);
	values[1] = mooring_text(text);
	mooring_append(m, 0, MOORING_NOW, values);
	return 1;
}

/* word gives what is behind name= among the arguments, or NULL. */
static const char *word(int count, char **arguments, const char *name)
{
	size_t length = strlen(name);
	for (int i = 3; i < count; i++)
		if (strncmp(arguments[i], name, length) == 0 && arguments[i][length] == '=')
			return arguments[i] + length + 1;
	return NULL;
}

/* option gives the same as a number, or otherwise. */
static uint32_t option(int count, char **arguments, const char *name, uint32_t otherwise)
{
	const char *is = word(count, arguments, name);
	return is == NULL ? otherwise : (uint32_t)strtoul(is, NULL, 10);
}

/* open_ledger begins the ledger, if one is asked for. */
static bool open_ledger(struct ledger *l, int count, char **arguments, uint32_t rate, uint32_t boot)
{
	const char *path = word(count, arguments, "ledger"), *device = word(count, arguments, "device");
	if (path == NULL)
		return true;
	l->run = option(count, arguments, "run", 1);
	l->seed = option(count, arguments, "seed", 1);
	l->channels = option(count, arguments, "channels", MOST_CHANNELS);
	l->period = 1000 / rate;
	if (device == NULL || l->period * rate != 1000 || l->run >= 1u << 21 || (l->channels != 1 && l->channels != MOST_CHANNELS))
		return false;
	l->file = fopen(path, "w");
	if (l->file != NULL)
		ledger_begin(l, device, boot);
	return l->file != NULL;
}

/* take_apart cuts ws://host:port/path; the pieces lie in a copy that stays. */
static bool take_apart(const char *url, struct line *line, struct mooring_config *config)
{
	if (strncmp(url, "ws://", 5) != 0)
		return false;
	char *whole = strdup(url + 5), *host = strdup(url + 5);
	char *slash = strchr(host, '/');
	if (slash != NULL)
		*slash = 0;
	slash = strchr(whole, '/');
	config->path = slash == NULL ? "/v1/stream" : strdup(slash);
	config->host = strdup(host);
	char *colon = strrchr(host, ':');
	line->port = colon == NULL ? "80" : colon + 1;
	if (colon != NULL)
		*colon = 0;
	line->host = host;
	free(whole);
	return true;
}

int main(int count, char **arguments)
{
	static struct mooring m;
	static struct line line;
	static struct mooring_config config;
	if (count < 3 || !take_apart(arguments[1], &line, &config)) {
		fprintf(stderr, "usage: %s ws://HOST:PORT/v1/stream TOKEN [rate=10] [rows=0] ...\n", arguments[0]);
		return 2;
	}
	line.fd = -1;
	line.random = fopen("/dev/urandom", "rb");
	if (line.random == NULL)
		return 2;
	config.token = arguments[2];
	config.model = "posix";
	config.firmware = "1.0";
	config.layouts = word(count, arguments, "ledger") == NULL ? layouts : fleet_layouts;
	config.layout_count = 2;
	config.drop_oldest = option(count, arguments, "drop", 0) != 0;
	config.linger_ms = option(count, arguments, "linger", 0);
	config.context = &line;
	config.open = line_open;
	config.send = line_send;
	config.recv = line_recv;
	config.close = line_close;
	config.random = line_random;
	config.command = line_command;
	config.refused = line_refused;
	uint32_t rate = option(count, arguments, "rate", 10), rows = option(count, arguments, "rows", 0);
	uint32_t frame = option(count, arguments, "frame", 2048), cap = option(count, arguments, "wait", 0);
	uint32_t size = frame + option(count, arguments, "ring", 65536);
	if (rate == 0 || !mooring_init(&m, &config, malloc(size), size, (uint16_t)frame, now_ms())) {
		fprintf(stderr, "%s: URL, token and layouts do not fit into frame=%lu\n", arguments[0], (unsigned long)frame);
		return 2;
	}
	struct ledger *ledger = &line.ledger;
	if (!open_ledger(ledger, count, arguments, rate, m.boot)) {
		fprintf(stderr, "%s: the ledger can't be written, or device, run, channels and rate don't go with it\n", arguments[0]);
		return 2;
	}
	struct sigaction action = {0};
	action.sa_handler = on_signal;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);

	uint64_t made = 0, calls = 0;
	uint32_t began = now_ms(), left_at = 0;
	uint8_t state = 0xff;
	bool leaving = false;
	for (;;) {
		uint32_t now = now_ms();
		bool all = ending || (rows > 0 && made >= rows);
		if (!all && ledger->file != NULL && (uint64_t)(now - began) * rate / 1000 >= made) {
			uint32_t n = calls++ % 10 == 9 ? BURST / 2 : 1;
			ledger_append(ledger, &m, made, n);
			made += n;
		} else if (!all && ledger->file == NULL && (uint64_t)(now - began) * rate / 1000 >= calls) {
			made += make(&m, made, calls);
			calls++;
		} else if (all && !leaving) {
			leaving = true;
			left_at = now;
			mooring_flush(&m);
		}
		uint64_t head = m.head_seq;
		uint32_t lost = m.lost;
		uint32_t wait = mooring_poll(&m, now);
		if (ledger->file != NULL)
			ledger_polled(ledger, &m, head, lost);
		if (m.state != state) {
			state = m.state;
			if (state == 0)
				fprintf(stderr, "ended %u, again in %lu ms\n", m.ended, (unsigned long)wait);
			else if (state == 3)
				fprintf(stderr, "connected\n");
		}
		if (cap > 0 && m.state == 0 && wait > cap) {
			poll(NULL, 0, (int)cap);
			mooring_start(&m);
			continue;
		}
		if (leaving && (mooring_waiting(&m) == 0 || (rows == 0 && now - left_at > 10000)))
			break;
		if (!all) {
			uint32_t due = (uint32_t)((ledger->file != NULL ? made : calls) * 1000 / rate) - (now - began);
			if ((int32_t)due < 0)
				due = 0;
			if (due < wait)
				wait = due;
		}
		if (wait > 100)
			wait = 100;
		struct pollfd ready = {line.fd, POLLIN, 0};
		if (m.link.sent < m.link.pending || m.state == 1)
			ready.events |= POLLOUT;
		poll(&ready, line.fd >= 0 ? 1 : 0, (int)wait);
	}
	mooring_stop(&m);
	if (ledger->file != NULL) {
		ledger_state(ledger, ",\"end\":true");
		fclose(ledger->file);
	}
	printf("made %llu settled %llu lost %lu rejected %lu connects %lu\n", (unsigned long long)made,
	       (unsigned long long)m.head_seq, (unsigned long)m.lost, (unsigned long)m.rejected, (unsigned long)m.connects);
	return mooring_waiting(&m) == 0 ? 0 : 1;
}
