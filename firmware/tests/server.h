/* A server in memory for the tests: takes apart what the client sends, and lets
 * a test send what it wants, in pieces of any size. It is given the whole of
 * mooring.c, so that tests reach what is static there. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mooring.c"

#define MOST 65536

static struct {
	struct mooring m;
	uint32_t tick, seed;
	uint8_t memory[8192];

	uint8_t in[MOST]; /* to the client */
	size_t in_at, in_end;
	uint8_t out[MOST]; /* from the client, not yet taken apart */
	size_t out_end;
	int opens, closes, open_result, broken;
	size_t piece; /* most bytes at a time; 0: all */
	size_t room;  /* bytes that send takes before it says later */
	bool upgraded, welcome;

	/* what came */
	int hellos, layouts, datas, results, pongs, close_code, pings;
	uint8_t pong[128];
	size_t pong_length;
	uint64_t result_id;
	unsigned result_status;
	int64_t rows[20000][3]; /* seq, time, first value; of this connection */
	size_t row_count;
	uint64_t next; /* rises within a connection */
	unsigned layout_of_last;
	uint8_t last[4096];
	size_t last_length;
	int commands, refusals;
	uint64_t kept, forgotten;
} t;

static uint32_t test_random(void *c)
{
	(void)c;
	t.seed ^= t.seed << 13;
	t.seed ^= t.seed >> 17;
	t.seed ^= t.seed << 5;
	return t.seed;
}

static int test_open(void *c)
{
	(void)c;
	if (t.open_result != 1)
		return t.open_result;
	t.opens++;
	t.in_at = t.in_end = t.out_end = 0;
	t.upgraded = false;
	t.broken = 0;
	t.row_count = 0;
	t.next = 0;
	return 1;
}

static int test_send(void *c, const uint8_t *bytes, size_t length)
{
	(void)c;
	if (t.broken)
		return -1;
	if (t.piece && length > t.piece)
		length = t.piece;
	if (length > t.room)
		length = t.room;
	assert(t.out_end + length <= MOST);
	memcpy(t.out + t.out_end, bytes, length);
	t.out_end += length;
	t.room -= length;
	return (int)length;
}

static int test_recv(void *c, uint8_t *bytes, size_t length)
{
	(void)c;
	size_t there = t.in_end - t.in_at;
	if (there == 0)
		return t.broken ? -1 : 0;
	if (length > there)
		length = there;
	if (t.piece && length > t.piece)
		length = t.piece;
	memcpy(bytes, t.in + t.in_at, length);
	t.in_at += length;
	return (int)length;
}

static void test_close(void *c, uint16_t code)
{
	(void)c;
	(void)code;
	t.closes++;
}

static uint8_t test_command(void *c, const struct mooring_command *command)
{
	(void)c;
	t.commands++;
	assert(command->name_length == 4 && memcmp(command->name, "test", 4) == 0);
	return MOORING_DONE;
}

static void test_refused(void *c, uint64_t seq, uint32_t n, int channel, uint8_t code)
{
	(void)c;
	(void)seq;
	(void)n;
	(void)channel;
	(void)code;
	t.refusals++;
}

/* --- the server's side --- */

static void feed(const void *bytes, size_t length)
{
	assert(t.in_end + length <= MOST);
	memcpy(t.in + t.in_end, bytes, length);
	t.in_end += length;
}

static void feed_ws(unsigned head, const void *payload, size_t length)
{
	uint8_t h[4] = {(uint8_t)head, (uint8_t)length, 0, 0};
	if (length > 125) {
		h[1] = 126;
		h[2] = (uint8_t)(length >> 8);
		h[3] = (uint8_t)length;
		feed(h, 4);
	} else {
		feed(h, 2);
	}
	feed(payload, length);
}

/* sends a frame given as bytes. */
#define FRAME(...)                                               \
	do {                                                     \
		const uint8_t bytes_[] = {__VA_ARGS__};          \
		feed_ws(0x82, bytes_, sizeof bytes_);            \
	} while (0)

#define U32(n) 0xce, (uint8_t)((n) >> 24), (uint8_t)((n) >> 16), (uint8_t)((n) >> 8), (uint8_t)(n)
#define T0 UINT64_C(1790000000000) /* the server's clock when the test begins */

static void ack(uint64_t next, unsigned window)
{
	FRAME(0x93, 17, U32(next), (uint8_t)window);
}

static void welcome(void)
{
	uint64_t now = T0 + t.tick;
	uint8_t bytes[] = {0x98, 16, 0xcf, 0, 0, 0, 0, 0, 0, 0, 0, 42, 30, 0xcd, 0x40, 0, 16, 5, 0xc0};
	put_be(bytes + 3, 8, now);
	feed_ws(0x82, bytes, sizeof bytes);
}

static int64_t integer(const uint8_t **p)
{
	const uint8_t *b = *p;
	if (*b < 0x80 || *b >= 0xe0) {
		*p += 1;
		return (int8_t)*b;
	}
	assert(*b >= 0xcc && *b <= 0xd3);
	unsigned n = 1u << (*b & 3);
	uint64_t v = get_be(b + 1, n);
	if (*b >= 0xd0 && n < 8 && (v >> (8 * n - 1)))
		v |= UINT64_MAX << (8 * n);
	*p += 1 + n;
	return (int64_t)v;
}

static void take_data(const uint8_t *p, const uint8_t *end)
{
	uint64_t seq = (uint64_t)integer(&p);
	uint64_t n = (uint64_t)integer(&p);
	int64_t time = integer(&p);
	t.layout_of_last = (unsigned)integer(&p);
	int64_t step = integer(&p);
	unsigned width = t.m.config->layouts[t.layout_of_last].count;
	assert(seq >= t.next && n > 0);
	t.next = seq + n;
	if (step > 0) {
		unsigned count = (unsigned)n * width;
		if (*p == 0xc8) {
			unsigned size = p[3] == 2 ? 2 : 4;
			assert(get_be(p + 1, 2) == count * size && p + 4 + count * size == end);
		} else {
			assert(*p == 0xdc && get_be(p + 1, 2) == count);
		}
		for (uint64_t i = 0; i < n; i++) {
			t.rows[t.row_count][0] = (int64_t)(seq + i);
			t.rows[t.row_count][1] = time + (int64_t)i * step / 1000;
			t.rows[t.row_count++][2] = INT64_MIN;
		}
		return;
	}
	assert(*p == 0xdc && get_be(p + 1, 2) == n * (width + 1));
	p += 3;
	for (uint64_t i = 0; i < n; i++) {
		time += integer(&p);
		t.rows[t.row_count][0] = (int64_t)(seq + i);
		t.rows[t.row_count][1] = time;
		t.rows[t.row_count][2] = *p == 0xca || *p == 0xc0 || *p == 0xd9 || *p == 0xc2 || *p == 0xc3 ? INT64_MIN : 0;
		struct reader r = {p, end, width, 0};
		if (t.rows[t.row_count][2] == 0) {
			const uint8_t *q = p;
			t.rows[t.row_count][2] = integer(&q);
		}
		t.row_count++;
		while (r.left > 0)
			next(&r);
		assert(r.at != NULL);
		p = r.at;
	}
	assert(p == end);
}

static void take_message(unsigned opcode, const uint8_t *p, size_t length)
{
	if (opcode == 10) {
		t.pongs++;
		memcpy(t.pong, p, length);
		t.pong_length = length;
		return;
	}
	if (opcode == 8) {
		t.close_code = length >= 2 ? (int)get_be(p, 2) : 1005;
		return;
	}
	assert(opcode == 2 && length >= 2 && length <= sizeof t.last);
	memcpy(t.last, p, length);
	t.last_length = length;
	unsigned type = p[1];
	const uint8_t *end = p + length;
	p += 2;
	if (type == 1) {
		t.hellos++;
		if (t.welcome)
			welcome();
	} else if (type == 2) {
		t.layouts++;
	} else if (type == 3) {
		t.datas++;
		take_data(p, end);
	} else if (type == 4) {
		t.results++;
		t.result_id = (uint64_t)integer(&p);
		t.result_status = (unsigned)integer(&p);
	} else {
		assert(type == 5);
		t.pings++;
	}
}

static void take_out(void)
{
	size_t at = 0;
	if (!t.upgraded) {
		t.out[t.out_end] = 0;
		char *end = strstr((char *)t.out, "\r\n\r\n");
		if (end == NULL)
			return;
		char *key = strstr((char *)t.out, "Sec-WebSocket-Key:");
		assert(key != NULL && key < end);
		uint8_t accept[64];
		acceptance(accept, (uint8_t *)key + 18);
		char answer[256];
		int length = snprintf(answer, sizeof answer,
				      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nconnection: upgrade\r\n"
				      "SEC-WebSocket-Accept: %.27s=\r\nX: %.90s\r\n\r\n",
				      (char *)accept, "a header that is longer than what is kept of a line, and of which nobody wants to know");
		feed(answer, (size_t)length);
		t.upgraded = true;
		at = (size_t)(end + 4 - (char *)t.out);
	}
	while (t.out_end - at >= 6) {
		uint8_t *h = t.out + at;
		assert((h[0] & 0x70) == 0 && (h[0] & 0x80) && (h[1] & 0x80));
		size_t length = h[1] & 0x7f, head = 6;
		if (length == 126) {
			length = (size_t)get_be(h + 2, 2);
			head = 8;
		}
		if (t.out_end - at < head + length)
			break;
		for (size_t i = 0; i < length; i++)
			h[head + i] ^= h[head - 4 + (i & 3)];
		take_message(h[0] & 15, h + head, length);
		at += head + length;
	}
	memmove(t.out, t.out + at, t.out_end - at);
	t.out_end -= at;
}

/* --- the device's side --- */

static const struct mooring_channel air[] = {{"temperature", "C", MOORING_NUMBER, -1}, {"door", NULL, MOORING_BOOLEAN, 0}};
static const struct mooring_channel wave[] = {{"x", NULL, MOORING_NUMBER, 0}};
static const struct mooring_layout layouts[] = {{"air", air, 2}, {"wave", wave, 1}};
static struct mooring_config config;

/* begin_test makes a client with so much ring; pieces of everything. */
static void begin_test(uint32_t ring)
{
	memset(&t, 0, sizeof t);
	t.seed = 2463534242u;
	t.open_result = 1;
	t.room = SIZE_MAX;
	t.welcome = true;
	t.tick = 0xffffff00u; /* wraps soon */
	struct mooring_config c = {
		.host = "example.org", .path = "/v1/stream", .token = "secret", .model = "m", .firmware = "1",
		.layouts = layouts, .layout_count = 2,
		.open = test_open, .send = test_send, .recv = test_recv, .close = test_close, .random = test_random,
		.command = test_command, .refused = test_refused,
	};
	config = c;
	assert(mooring_init(&t.m, &config, t.memory, ring + 512, 512, t.tick));
}

static uint32_t turn(uint32_t ms)
{
	t.tick += ms;
	uint32_t wait = mooring_poll(&t.m, t.tick);
	take_out();
	return wait;
}

/* settle polls until nothing moves any more. */
static void settle(void)
{
	for (int i = 0; i < 30; i++)
		turn(0);
}

static bool row(int value)
{
	struct mooring_value values[] = {mooring_int(value), mooring_bool(true)};
	return mooring_append(&t.m, 0, MOORING_NOW, values);
}
