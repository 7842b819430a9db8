/* Tests of the client against a server in memory; prints what it ran. Ends by
 * assert. */
#include "server.h"

#ifdef MOORING_SHA1

static int failing; /* a platform whose SHA-1 does not work */

static uint32_t left(uint32_t word, int by) { return word << by | word >> (32 - by); }

/* The SHA-1 of a platform (FIPS 180-4 6.1.2), written for up to 119 bytes. */
int MOORING_SHA1(const uint8_t *bytes, size_t length, uint8_t digest[20])
{
	uint8_t text[128] = {0};
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	if (failing)
		return -1;
	size_t blocks = length < 56 ? 1 : 2;
	memcpy(text, bytes, length);
	text[length] = 0x80;
	text[blocks * 64 - 1] = (uint8_t)(length * 8);
	text[blocks * 64 - 2] = (uint8_t)(length * 8 >> 8);
	for (size_t block = 0; block < blocks; block++) {
		uint32_t w[80], s[5];
		memcpy(s, h, sizeof s);
		for (int i = 0; i < 80; i++) {
			const uint8_t *b = text + block * 64 + i * 4;
			w[i] = i >= 16 ? left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
				       : (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
			static const uint32_t k[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
			uint32_t f[] = {(s[1] & s[2]) | (~s[1] & s[3]), s[1] ^ s[2] ^ s[3], (s[1] & s[2]) | (s[1] & s[3]) | (s[2] & s[3]), s[1] ^ s[2] ^ s[3]};
			uint32_t a = left(s[0], 5) + f[i / 20] + s[4] + k[i / 20] + w[i];
			s[4] = s[3], s[3] = s[2], s[2] = left(s[1], 30), s[1] = s[0], s[0] = a;
		}
		for (int i = 0; i < 5; i++)
			h[i] += s[i];
	}
	for (int i = 0; i < 20; i++)
		digest[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
	return 0;
}

/* Without a SHA-1 no server is believed. */
static void test_no_sha1(void)
{
	begin_test(1024);
	failing = 1;
	turn(0);
	failing = 0;
	settle();
	assert(t.m.state == IDLE && t.m.connects == 0 && t.m.ended == 101);
}

#endif

static void test_acceptance(void)
{
	uint8_t to[64];
	acceptance(to, (const uint8_t *)"dGhlIHNhbXBsZSBub25jZQ=="); /* RFC 6455 1.3 */
	assert(memcmp(to, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo", 27) == 0);
}

static void test_classes(void)
{
	static const struct { uint32_t code, class; } is[] = { /* PROTOCOL 9.1 */
		{0, 0}, {4000, 0}, {4001, 0}, {4002, 0}, {4004, 0}, {4099, 0}, {4100, 1}, {4101, 1}, {4102, 1}, {4103, 1},
		{4200, 2}, {4201, 2}, {4202, 2}, {4203, 2}, {4204, 2}, {4300, 1}, {4499, 1}, {4500, 3}, {4501, 3}, {4502, 3}, {4600, 1},
		{1000, 0}, {1001, 0}, {1002, 2}, {1003, 2}, {1004, 0}, {1005, 0}, {1006, 0}, {1007, 2}, {1008, 1}, {1009, 2},
		{1010, 0}, {1011, 0}, {1012, 0}, {1013, 1}, {1014, 0}, {3000, 0}, {65535, 1},
		{100, 1}, {200, 1}, {302, 1}, {400, 2}, {401, 3}, {402, 2}, {403, 3}, {404, 2}, {407, 2}, {408, 0}, {426, 2},
		{429, 1}, {431, 2}, {500, 0}, {502, 0}, {503, 1}, {504, 0}, {599, 0},
	};
	for (size_t i = 0; i < sizeof is / sizeof is[0]; i++)
		assert(class_of(is[i].code) == is[i].class);
}

static void test_first_words(void)
{
	begin_test(1024);
	row(215);
	settle();
	assert(t.hellos == 1 && t.layouts == 1 && t.datas == 1 && t.row_count == 1);
	assert(t.rows[0][0] == 0 && t.rows[0][2] == 215);
	static const uint8_t head[] = {0x97, 3, 0xcf, 0, 0, 0, 0, 0, 0, 0, 0, 0xcd, 0, 1, 0xcf}, tail[] = {0, 0, 0xdc, 0, 3, 0, 0xd1, 0, 215, 0xc3};
	assert(memcmp(t.last, head, sizeof head) == 0);
	assert(t.last_length == sizeof head + 8 + sizeof tail && memcmp(t.last + sizeof head + 8, tail, sizeof tail) == 0);
	assert(mooring_waiting(&t.m) == 1);
	ack(1, 16);
	settle();
	assert(mooring_waiting(&t.m) == 0);
}

/* Rows made before the clock is known are sent after WELCOME, with the times at
 * which they were made; so they are after a reconnect. */
static void test_clock(void)
{
	begin_test(1024);
	t.welcome = false;
	t.open_result = 0;
	turn(0);
	row(1);
	turn(1500);
	row(2);
	t.open_result = 1;
	settle();
	assert(t.hellos == 1 && t.datas == 0 && mooring_time(&t.m) == 0);
	turn(500);
	welcome();
	int64_t now = (int64_t)(T0 + t.tick);
	settle();
	assert(t.row_count == 2 && t.rows[0][1] == now - 2000 && t.rows[1][1] == now - 500);
	assert(mooring_time(&t.m) == (uint64_t)now);
	t.broken = 1;
	turn(0);
	turn(20000);
	t.tick += 7; /* a clock that differs now */
	welcome();
	settle();
	assert(t.row_count == 2 && t.rows[0][1] == now - 2000 && t.rows[1][1] == now - 500);
}

static void test_window(void)
{
	begin_test(4096);
	t.welcome = false;
	mooring_set_time(&t.m, T0);
	row(0);
	settle();
	for (int i = 1; i < 40; i++) { /* each a frame, since the next is of another layout */
		struct mooring_value values[] = {mooring_int(i), mooring_bool(true)};
		assert(mooring_append(&t.m, (uint8_t)(i & 1), MOORING_NOW, values));
	}
	settle();
	assert(t.datas == 4); /* before WELCOME */
	ack(1, 3);
	settle();
	assert(t.datas == 4);
	ack(4, 2);
	settle();
	assert(t.datas == 6);
	ack(6, 0);
	settle();
	assert(t.datas == 6);
	ack(6, 100);
	settle();
	assert(t.datas == 6 + MOORING_WINDOW);
}

static void test_reconnect(void)
{
	begin_test(2048);
	for (int i = 0; i < 10; i++)
		row(i);
	settle();
	assert(t.row_count == 10);
	ack(10, 0);
	settle();
	row(10);
	ack(999, 0); /* of what was not sent nothing is settled */
	settle();
	assert(mooring_waiting(&t.m) == 1 && t.row_count == 10);
	ack(999, 1);
	settle();
	assert(mooring_waiting(&t.m) == 1 && t.row_count == 11 && t.rows[10][0] == 10);
	ack(999, 1); /* but what was, is, and the next ones go */
	row(11);
	settle();
	assert(mooring_waiting(&t.m) == 1 && t.row_count == 12);
	FRAME(0x93, 17, 0xcf, 0, 0, 1, 0, 0, 0, 0, 0, 1); /* 2^40: the lower half does not decide */
	row(12);
	settle();
	assert(mooring_waiting(&t.m) == 1 && t.row_count == 13);
	ack(3, 1); /* an old one */
	settle();
	assert(mooring_waiting(&t.m) == 1 && t.m.state == CONNECTED);
	begin_test(2048);
	for (int i = 0; i < 10; i++)
		row(i);
	settle();
	ack(4, 16);
	settle();
	t.broken = 1;
	turn(0);
	assert(t.m.state == IDLE && t.m.failures == 0 && t.closes == 1);
	turn(5000); /* spread */
	settle();
	assert(t.opens == 2 && t.hellos == 2 && t.layouts == 2);
	assert(t.row_count == 6 && t.rows[0][0] == 4 && t.rows[5][2] == 9);
}

static void test_full(void)
{
	begin_test(300); /* some 17 rows */
	t.open_result = 0;
	mooring_set_time(&t.m, T0);
	int taken = 0;
	while (row(taken))
		taken++;
	assert(taken >= 15 && !row(0) && t.m.gap == 2 && t.m.lost == 2);
	t.open_result = 1;
	settle();
	ack((uint64_t)taken, 16);
	settle();
	row(1000);
	settle();
	assert(t.rows[t.row_count - 1][0] == taken + 2 && t.rows[t.row_count - 1][2] == 1000);

	begin_test(300);
	config.drop_oldest = true;
	t.open_result = 0;
	mooring_set_time(&t.m, T0);
	for (int i = 0; i < 100; i++)
		assert(row(i));
	uint64_t kept = mooring_waiting(&t.m);
	assert(kept >= 14 && t.m.lost == 100 - kept);
	t.open_result = 1;
	settle();
	assert(t.rows[0][0] == (int64_t)(100 - kept) && t.rows[t.row_count - 1][2] == 99 && t.row_count == kept);
	assert(!mooring_append(&t.m, 9, MOORING_NOW, NULL)); /* no such layout */
}

/* A frame that is bad behind its first fields does not leave limits below what there
 * is: they stay over connections. */
static void test_bad_limits(void)
{
	static const struct { uint8_t bytes[10]; size_t length; } is[] = {
		{{0x82, 7, 0x95, 19, 4, 0xc0, 1, 0xa1, 'x'}, 9}, /* a max_frame of 1, and a window that is none */
		{{0x82, 6, 0x94, 19, 4, 0, 0xa1, 'x'}, 8},	 /* a heartbeat of 0, and a max_frame that is none */
	};
	for (size_t i = 0; i < sizeof is / sizeof is[0]; i++) {
		begin_test(1024);
		row(1);
		settle();
		feed(is[i].bytes, is[i].length);
		settle();
		assert(t.m.state == IDLE && t.close_code == 4200);
		assert(t.m.told.is.max_frame >= 256 && t.m.told.is.heartbeat >= 5);
		mooring_start(&t.m);
		settle();
		assert(t.m.state == CONNECTED && t.hellos == 2 && t.row_count == 1);
	}
}

/* What makes room is counted in bytes: a gap takes hardly any and stands for many rows. */
static void test_room_before_a_gap(void)
{
	begin_test(2048);
	config.drop_oldest = true;
	t.open_result = 0;
	mooring_set_time(&t.m, T0);
	for (int i = 0; i < 60; i++)
		assert(row(i));
	t.m.gap = 60000;
	for (int i = 0; t.m.lost == 0; i++)
		assert(row(i));
	assert(t.m.lost <= 15); /* a sixteenth, of rows of at least 11 bytes, and what was needed */
}

/* A gap before a row that nobody wants is not in the way of giving that up. */
static void test_unwanted_behind_a_gap(void)
{
	begin_test(300);
	t.open_result = 0;
	mooring_set_time(&t.m, T0);
	int taken = 0;
	while (row(taken))
		taken++;
	t.open_result = 1;
	settle();
	ack((uint64_t)taken, 16);
	FRAME(0x95, 19, 5, 1, 1, 9); /* layout 1 is refused */
	settle();
	assert(mooring_waiting(&t.m) == 0 && t.m.gap == 1 && t.m.lost == 1 && t.row_count == (unsigned)taken);
	struct mooring_value one = mooring_int(1);
	mooring_append(&t.m, 1, MOORING_NOW, &one);
	row(1000);
	row(1001);
	settle();
	assert(t.m.lost == 2 && t.row_count == (unsigned)taken + 2);
	assert(t.rows[t.row_count - 2][0] == taken + 2 && t.rows[t.row_count - 1][2] == 1001);
}

/* Frames whose rows made room are on their way until they are acknowledged. */
static void test_window_of_what_made_room(void)
{
	begin_test(600);
	config.drop_oldest = true;
	mooring_set_time(&t.m, T0);
	row(0);
	settle();
	ack(1, 4);
	for (int i = 1; i < 5; i++) {
		settle();
		row(i);
	}
	settle();
	assert(t.datas == 5 && t.m.link.flights == 4);
	for (int i = 0; i < 200; i++) { /* each a frame */
		struct mooring_value values[] = {mooring_int(i), mooring_bool(true)};
		assert(mooring_append(&t.m, (uint8_t)(i & 1), MOORING_NOW, values));
	}
	assert(t.m.head_seq > 5);
	ack(2, 4);
	settle();
	assert(t.datas == 6 && t.m.link.flights == 4);
}

static void test_blocks(void)
{
	begin_test(2048);
	int16_t numbers[50];
	for (int i = 0; i < 50; i++)
		numbers[i] = (int16_t)i;
	struct mooring_value values[] = {mooring_float(1.5f), mooring_none(), mooring_int(70000)};
	row(1);
#if MOORING_BLOCKS == 0
	assert(!mooring_append_packed(&t.m, 1, MOORING_NOW, 20000, 50, 2, numbers));
	assert(!mooring_append_regular(&t.m, 1, MOORING_NOW, 1000, 3, values));
	row(2);
	settle();
	assert(t.datas == 2 && t.row_count == 2 && t.rows[1][0] == 54 && t.m.lost == 53);
	return;
#endif
	assert(mooring_append_packed(&t.m, 1, MOORING_NOW, 20000, 50, 2, numbers));
	assert(mooring_append_regular(&t.m, 1, MOORING_NOW, 1000, 3, values));
	row(2);
	assert(!mooring_append_packed(&t.m, 1, MOORING_NOW, 20000, 50, 7, numbers)); /* no such numbers */
	row(3);
	settle();
	assert(t.datas == 5 && t.row_count == 56);
	assert(t.rows[1][0] == 1 && t.rows[50][1] == t.rows[1][1] + 49 * 20 && t.rows[51][0] == 51);
	assert(t.rows[54][0] == 54 && t.rows[55][0] == 105 && t.m.lost == 50);
	ack(30, 16); /* in the middle of a block: it stays whole */
	settle();
	assert(mooring_waiting(&t.m) == 105);
	ack(106, 16);
	settle();
	assert(mooring_waiting(&t.m) == 0);
}

static void test_fragments_and_pings(void)
{
	begin_test(1024);
	t.piece = 1;
	row(1);
	for (int i = 0; i < 3000; i++)
		turn(0);
	assert(t.row_count == 1);
	static const uint8_t a[] = {0x93, 17}, b[] = {1, 16};
	feed_ws(0x02, a, 2);
	feed_ws(0x89, "hello", 5);
	feed_ws(0x00, "", 0);
	feed_ws(0x89, "", 0);
	feed_ws(0x80, b, 2);
	feed_ws(0x8a, "unasked", 7);
	t.room = 0;
	for (int i = 0; i < 10; i++)
		turn(0);
	t.room = SIZE_MAX;
	for (int i = 0; i < 100; i++)
		turn(0);
	assert(mooring_waiting(&t.m) == 0 && t.pongs == 2 && t.m.state == CONNECTED);

	begin_test(1024);
	settle();
	feed_ws(0x02, a, 2);
	feed_ws(0x89, "hello", 5);
	settle();
	assert(t.pongs == 1 && t.pong_length == 5 && memcmp(t.pong, "hello", 5) == 0);
	/* An ACK does not wait for a line that takes nothing. */
	row(1);
	t.room = 10;
	settle();
	FRAME(0xc0); /* in the middle of a message: a fault */
	settle();
	assert(t.m.state == IDLE);
}

/* What a server may not send, and with what we leave. */
static void test_faults_of_the_server(void)
{
	static const struct { uint8_t bytes[20]; size_t length; int code; } is[] = {
		{{0x82, 1, 0xc1}, 3, 4200}, {{0x82, 0}, 2, 4200}, {{0x82, 2, 0x91, 7}, 4, 4203}, {{0x82, 2, 0x91, 1}, 4, 4203},
		{{0x82, 3, 0x92, 17, 5}, 5, 4200}, {{0x82, 4, 0x92, 17, 5, 0xff}, 6, 4200}, {{0x82, 5, 0x93, 17, 5, 1, 1}, 7, 4200},
		{{0x82, 7, 0x94, 17, 5, 1, 0xdd, 0, 0}, 9, 4200}, {{0x81, 0}, 2, 4204}, {{0xc2, 0}, 2, 1002}, {{0x82, 0x80, 0, 0, 0, 0}, 6, 1002},
		{{0x83, 0}, 2, 1002}, {{0x80, 0}, 2, 1002}, {{0x09, 0}, 2, 1002}, {{0x89, 126, 0, 126}, 4, 1002}, {{0x8b, 0}, 2, 1002},
		{{0x82, 126, 1, 1}, 4, 1009}, {{0x82, 127, 0xff, 0xff, 0xff, 0xff}, 6, 1009},
		{{0x82, 4, 0x92, 16, 0x91, 1}, 6, 4200}, {{0x82, 5, 0x93, 17, 0xc0, 1, 1}, 7, 4200},
	};
	for (size_t i = 0; i < sizeof is / sizeof is[0]; i++) {
		begin_test(1024);
		settle();
		feed(is[i].bytes, is[i].length);
		settle();
		if (t.close_code != is[i].code)
			fprintf(stderr, "case %zu: %d\n", i, t.close_code);
		assert(t.m.state == IDLE && t.close_code == is[i].code && class_of(t.m.ended) == CLASS_RETRY);
	}
	begin_test(1024); /* what has to be borne */
	settle();
	FRAME(0x92, 33, 0xc1);
	FRAME(0x94, 17, 0, 16, 0xc0);
	FRAME(0x96, 17, 0xcc, 0, 0xd1, 0, 16, 0, 0x90, 0x81, 1, 0xd4, 7, 7);
	FRAME(0x93, 19, 99, 0xdc, 0, 1, 0xd9, 1, 'x');
	FRAME(0x93, 20, 1, 2);
	settle();
	assert(t.m.state == CONNECTED && t.close_code == 0);
}

static void test_heartbeat(void)
{
	begin_test(1024);
	settle();
	uint32_t wait = turn(1000);
	assert(wait == 59000);
	turn(58000);
	feed_ws(0x89, "", 0);
	turn(0);
	turn(59999);
	assert(t.m.state == CONNECTED && t.pongs == 1);
	turn(1);
	assert(t.m.state == IDLE && t.m.failures == 0); /* it lived for a minute */
}

static void test_waits(void)
{
	begin_test(1024);
	static const struct { int result; uint32_t failures, least, most; } is[] = {
		{-1, 1, 0, 10000}, {-1, 2, 0, 20000}, {-1, 7, 0, 600000}, {-1, 20, 0, 600000},
		{-503, 1, 60000, 70000}, {-400, 1, 10000, 20000},
		{-401, 1, 900000, 910000}, {-401, 2, 1800000, 1820000}, {-401, 20, 21600000, 22200000},
	};
	for (size_t i = 0; i < sizeof is / sizeof is[0]; i++) {
		uint32_t least = UINT32_MAX, most = 0;
		for (int again = 0; again < 300; again++) {
			t.m.failures = (uint8_t)(is[i].failures - 1);
			mooring_start(&t.m);
			t.open_result = is[i].result;
			uint32_t wait = turn(0);
			assert(t.m.state == IDLE && wait >= is[i].least && wait <= is[i].most);
			if (wait < least)
				least = wait;
			if (wait > most)
				most = wait;
		}
		uint32_t width = is[i].most - is[i].least; /* spread over all of it */
		assert(least < is[i].least + width / 10 && most > is[i].most - width / 10);
	}
	static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\n\r\n";
	begin_test(1024);
	turn(0);
	t.in_at = t.in_end = 0;
	feed(busy, sizeof busy - 1);
	uint32_t wait = turn(0);
	assert(t.m.state == IDLE && t.m.ended == 503 && wait >= 120000 && wait <= 125000);
	static const char wrong[] = "HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
	begin_test(1024);
	turn(0);
	t.in_at = t.in_end = 0;
	feed(wrong, sizeof wrong - 1);
	turn(0);
	assert(t.m.state == IDLE && t.m.ended == 101 && t.m.connects == 0);
}

static void test_goaway(void)
{
	begin_test(2048);
	row(1);
	settle();
	FRAME(0x97, 19, 3, 0xcd, 0x0f, 0xa0, 0xcd, 0x13, 0x88, 0xcd, 0x27, 0x10, 0xcd, 0x4e, 0x20, 0xc0); /* 4000, 5 s, 10 s to 20 s */
	row(2);
	settle();
	assert(t.m.state == CONNECTED && t.row_count == 1); /* nothing new, the ack is waited for */
	ack(1, 16);
	settle();
	assert(t.m.state == IDLE && t.close_code == 1000 && t.m.ended == 4000);
	uint32_t wait = turn(0);
	assert(wait >= 10000 && wait <= 20000);
	turn(wait);
	settle();
	FRAME(0x97, 19, 3, 0xcd, 0x0f, 0xa0, 0xcd, 0x13, 0x88, 0xcd, 0x27, 0x10, 0xcd, 0x27, 0x10, 0xc0); /* 10 s to 10 s: to 11 s */
	ack(2, 16);
	settle();
	wait = turn(0);
	assert(t.m.state == IDLE && wait >= 10000 && wait <= 11000 && t.m.told.is.slot == 1000);
}

static void test_notices(void)
{
	begin_test(2048);
	row(1);
	settle();
	FRAME(0x94, 19, 2, 0xcd, 0x03, 0xe8, 60); /* a second between frames, for a minute */
	row(2);
	turn(0);
	uint32_t wait = turn(0);
	assert(t.row_count == 1 && wait <= 1000);
	turn(1000);
	assert(t.row_count == 2);
	FRAME(0x96, 19, 4, 60, 0xc0, 1, 9);
	settle();
	assert(t.m.told.is.heartbeat == 60 && t.m.told.is.spread == 9 && t.m.told.is.window == 1 && t.m.told.is.max_frame == 16384);
	FRAME(0x94, 19, 2, 0, 0);
	ack(2, 16);
	FRAME(0x93, 19, 6, 0);
	settle();
	row(3);
	settle();
	assert(t.layouts == 2 && t.row_count == 3);
	ack(3, 16);
	settle();
	FRAME(0x95, 19, 5, 0, 1, 9); /* layout 0 is refused: its rows are given up, others go */
	settle();
	struct mooring_value one = mooring_int(1);
	row(4);
	mooring_append(&t.m, 1, MOORING_NOW, &one);
	settle();
	assert(t.row_count == 4 && t.layout_of_last == 1 && t.m.lost == 1 && t.rows[3][0] == 4);
	ack(5, 16);
	settle();
	row(5);
	assert(turn(0) == 0 && t.m.lost == 2); /* the next row need not wait for it */
}

static void test_refusals(void)
{
	begin_test(2048);
	for (int i = 0; i < 6; i++)
		row(i);
	settle();
	FRAME(0x95, 17, 3, 16, 1, 0x94, 2, 1, 1, 3); /* final: told, and settled */
	settle();
	assert(t.refusals == 1 && mooring_waiting(&t.m) == 3 && t.m.rejected == 1);
	for (int round = 1; round <= 3; round++) {
		FRAME(0x95, 17, 6, 16, 2, 0x94, 4, 2, 0xc0, 65); /* QUOTA: from row 4 on, later */
		settle();
		assert(t.m.state == IDLE && t.m.ended == 4103 && mooring_waiting(&t.m) == 2);
		assert(turn(0) >= 59000);
		turn(200000);
		settle();
		assert(t.rows[0][0] == 4 && t.row_count == 2);
	}
	FRAME(0x95, 17, 6, 16, 2, 0x94, 4, 2, 0xc0, 65);
	settle();
	assert(t.m.state == CONNECTED && mooring_waiting(&t.m) == 0);
	row(6);
	settle();
	FRAME(0x95, 17, 7, 16, 2, 0x94, 4, 2, 0xc0, 65); /* of rows that we have given up: no reason to go */
	settle();
	assert(t.m.state == CONNECTED && mooring_waiting(&t.m) == 0);
}

static void test_poison(void)
{
	begin_test(4096);
	for (int i = 0; i < 3; i++)
		row(i);
	settle();
	for (int i = 3; i < 6; i++)
		row(i);
	settle();
	for (int round = 0; round < 2; round++) {
		assert(t.row_count == 6 && t.m.lost == 0);
		feed_ws(0x88, "\x10\x68", 2); /* 4200 */
		turn(0);
		assert(t.m.state == IDLE && t.m.ended == 4200 && t.close_code == 4200);
		if (round == 0) {
			mooring_start(&t.m);
			t.m.config = &config;
			turn(0);
			settle();
		}
	}
	assert(t.m.lost == 6 || t.m.lost == 3);
	mooring_start(&t.m);
	row(99);
	settle();
	assert(t.rows[t.row_count - 1][0] == 6 && t.m.state == CONNECTED);
}

/* A row that can never fit must not cost the rows that are there. */
static void test_too_large(void)
{
	static char text[500];
	static const struct mooring_channel one[] = {{"text", NULL, MOORING_STRING, 0}};
	static const struct mooring_layout tables[] = {{"text", one, 1}};
	int16_t numbers[1] = {0};
	for (int drop = 0; drop < 2; drop++) {
		begin_test(1024);
		config.layouts = tables;
		config.layout_count = 1;
		config.drop_oldest = drop;
		mooring_set_time(&t.m, T0);
		struct mooring_value v = mooring_text("short");
		for (int i = 0; i < 5; i++)
			assert(mooring_append(&t.m, 0, MOORING_NOW, &v));
		memset(text, 'x', sizeof text - 1);
		v = mooring_text(text); /* more than the frame memory takes */
		assert(!mooring_append(&t.m, 0, MOORING_NOW, &v));
		assert(!mooring_append(&t.m, 1, MOORING_NOW, &v)); /* no such layout */
		assert(!mooring_append_packed(&t.m, 0, MOORING_NOW, 1000, 0, 2, numbers));
		assert(!mooring_append_packed(&t.m, 0, MOORING_NOW, 1000, 1, 9, numbers));
		assert(mooring_text(NULL).type == mooring_none().type);
		assert(mooring_waiting(&t.m) == 5 && t.m.head_seq == 0);
		assert(t.m.gap == 3 && t.m.lost == 3);
	}
}

/* Rows on their way that had to make room are not given up a second time, and with
 * them what came after (PROTOCOL 9.4). */
static void test_poison_made_room(void)
{
	begin_test(300);
	config.drop_oldest = true;
	mooring_set_time(&t.m, T0);
	for (int round = 0; round < 2; round++) {
		turn(0);
		row(round);
		settle();
		assert(t.m.state == CONNECTED && t.m.link.flights > 0);
		t.room = 0;
		for (int i = 0; i < 40; i++)
			assert(row(100 + i));
		assert((int32_t)(t.m.flight[0] - (uint32_t)t.m.head_seq) < 0);
		t.room = SIZE_MAX;
		uint64_t there = mooring_waiting(&t.m);
		feed_ws(0x88, "\x10\x68", 2); /* 4200 */
		turn(0);
		assert(t.m.state == IDLE && t.m.ended == 4200);
		assert(mooring_waiting(&t.m) == there && there > 10);
		mooring_start(&t.m);
	}
}

/* A header of the handshake is compared no farther than it goes; nothing lies behind
 * this client. */
static void test_blanks(void)
{
	static const char head[] = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept:";
	begin_test(1024);
	struct mooring *m = malloc(sizeof *m);
	assert(m != NULL && mooring_init(m, &config, t.memory, sizeof t.memory, 512, t.tick));
	mooring_poll(m, t.tick);
	assert(m->state == UPGRADING);
	feed(head, sizeof head - 1);
	for (int i = 0; i < 300; i++)
		feed(" ", 1);
	feed("\r\n\r\n", 4);
	assert(mooring_poll(m, t.tick) == 0); /* it wants to go on at once */
	mooring_poll(m, t.tick);
	assert(m->state == IDLE && m->ended == 101);
	free(m);
}

/* A Close has a code that a Close may have (RFC 6455 7.4). */
static void test_close_codes(void)
{
	static const struct { const char *body; size_t length; int answer; unsigned ended; } is[] = {
		{"", 0, 1000, 1005}, {"\x03", 1, 1000, 1005}, {"\x03\xe7", 2, 1002, 1002}, {"\0\0", 2, 1002, 1002},
		{"\x03\xe8", 2, 1000, 1000}, {"\x10\x05why", 5, 4101, 4101},
	};
	for (size_t i = 0; i < sizeof is / sizeof is[0]; i++) {
		begin_test(1024);
		settle();
		feed_ws(0x88, is[i].body, is[i].length);
		settle();
		assert(t.m.state == IDLE && t.close_code == is[i].answer && t.m.ended == is[i].ended);
	}
}

#if MOORING_FLASH

/* Records from a flash that did not keep them are read no farther than they go. */
static void test_restore_short(void)
{
	for (unsigned form = REGULAR; form <= 6; form++)
		for (unsigned length = 1; length <= MOORING_BLOCK_HEAD; length++) {
			begin_test(1024);
			uint8_t *record = calloc(1, length);
			assert(record != NULL);
			if (length > 2) {
				record[0] = (uint8_t)(length - HEAD);
				record[1] = length < HEAD ? 0xff : 0;
				record[2] = (uint8_t)(form << 4);
			}
			memset(record + (length > HEAD ? HEAD : length), 1, length > HEAD ? length - HEAD : 0);
			assert(!mooring_restore(&t.m, 0, record, (uint16_t)length) && mooring_waiting(&t.m) == 0);
			free(record);
		}
}

#endif

/* Begun twice, a client keeps its one connection; and its wait, if it was not stopped. */
static void test_start_again(void)
{
	begin_test(1024);
	mooring_start(&t.m);
	settle();
	assert(t.m.state == CONNECTED && t.opens == 1);
	mooring_start(&t.m);
	settle();
	assert(t.m.state == CONNECTED && t.opens == 1 && t.closes == 0);
	mooring_stop(&t.m);
	mooring_start(&t.m);
	settle();
	assert(t.m.state == CONNECTED && t.opens == 2 && t.closes == 1);
}

static void test_commands(void)
{
	begin_test(1024);
	settle();
	FRAME(0x94, 18, 12, 0xa4, 't', 'e', 's', 't', 0x81, 1, 2);
	FRAME(0x93, 18, 13, 0xd9, 4, 't', 'e', 's', 't');
	settle();
	assert(t.commands == 2 && t.results == 2 && t.result_id == 13 && t.result_status == MOORING_DONE);
	assert(mooring_result(&t.m, 14, MOORING_FAILED));
	settle();
	assert(t.result_id == 14 && t.result_status == MOORING_FAILED);
	/* One that has to wait for the line longer than its ttl has expired. */
	row(1);
	t.room = 0;
	settle();
	FRAME(0x95, 18, 15, 0xa4, 't', 'e', 's', 't', 0xc0, 2);
	FRAME(0x95, 18, 16, 0xa4, 't', 'e', 's', 't', 0xc0, 2);
	settle();
	turn(2500);
	t.room = SIZE_MAX;
	settle();
	assert(t.commands == 3 && t.result_id == 16 && t.result_status == MOORING_EXPIRED);
	/* One in fragments waits as well as one in a piece. */
	static const uint8_t first[] = {0x93, 18, 17, 0xa4}, last[] = {'t', 'e', 's', 't'};
	row(2);
	t.room = 0;
	settle();
	FRAME(0x93, 18, 16, 0xa4, 't', 'e', 's', 't');
	feed_ws(0x02, first, 4);
	feed_ws(0x80, last, 4);
	settle();
	t.room = SIZE_MAX;
	settle();
	assert(t.m.state == CONNECTED && t.commands == 5 && t.result_id == 17);
	FRAME(0x92, 18, 12);
	settle();
	assert(t.m.state == IDLE && t.close_code == 4200);
}

#if MOORING_FLASH

/* A mirror of the ring, as flash would hold it. */
static struct { uint64_t seq; uint16_t length; uint8_t bytes[64]; } mirror[64];
static size_t mirrored;
static uint64_t forgotten;
static void mirror_keep(void *c, uint64_t seq, const uint8_t *record, uint16_t length)
{
	(void)c;
	mirror[mirrored].seq = seq;
	mirror[mirrored].length = length;
	memcpy(mirror[mirrored++].bytes, record, length);
}
static void mirror_forget(void *c, uint64_t next)
{
	(void)c;
	forgotten = next;
}

static void test_mirror(void)
{
	begin_test(1024);
	config.keep = mirror_keep;
	config.forget = mirror_forget;
	mirrored = 0;
	for (int i = 0; i < 5; i++)
		row(i);
	assert(mirrored == 0); /* no times yet */
	settle();
	assert(mirrored == 5 && t.row_count == 5);
	int64_t times[2] = {t.rows[3][1], t.rows[4][1]};
	ack(3, 16);
	settle();
	assert(forgotten == 3);
	begin_test(1024); /* a reboot */
	for (size_t i = 0; i < mirrored; i++)
		if (mirror[i].seq >= forgotten)
			assert(mooring_restore(&t.m, mirror[i].seq, mirror[i].bytes, mirror[i].length));
	row(5);
	settle();
	assert(t.row_count == 3 && t.rows[0][0] == 3 && t.rows[0][1] == times[0] && t.rows[1][1] == times[1] && t.rows[2][0] == 5);
	begin_test(1024);
	assert(mooring_restore(&t.m, 77, NULL, 0));
	row(5);
	settle();
	assert(t.rows[0][0] == 77);
}

#endif

static void test_linger(void)
{
	begin_test(2048);
	config.linger_ms = 10000;
	row(1);
	turn(10000);
	settle();
	assert(t.datas == 1);
	row(2);
	uint32_t wait = turn(1000);
	assert(t.datas == 1 && wait == 9000);
	row(3);
	turn(8999);
	assert(t.datas == 1);
	turn(1);
	assert(t.datas == 2 && t.row_count == 3);
	row(4);
	mooring_flush(&t.m);
	settle();
	assert(t.datas == 3);
	mooring_stop(&t.m);
	assert(t.m.state == STOPPED && turn(0) == UINT32_MAX);
	mooring_start(&t.m);
	turn(10000);
	settle();
	assert(t.m.state == CONNECTED && t.row_count == 4);
}

#if MOORING_MESSAGES
/* A transport that carries whole messages and hides the server's Pings. */
static uint8_t sent_message[512];
static size_t sent_length;
static int sent_messages;
static int message_send(void *c, const uint8_t *bytes, size_t length)
{
	(void)c;
	if (t.room == 0)
		return 0;
	memcpy(sent_message, bytes, length);
	sent_length = length;
	sent_messages++;
	return (int)length;
}

static void test_messages(void)
{
	begin_test(1024);
	config.messages = true;
	config.send = message_send;
	sent_messages = 0;
	mooring_set_time(&t.m, T0);
	for (int i = 0; i < 3; i++)
		mooring_poll(&t.m, t.tick);
	assert(t.m.state == CONNECTED && sent_messages == 1 && sent_message[1] == 1);
	row(5);
	mooring_poll(&t.m, t.tick);
	assert(sent_messages == 3 && sent_message[0] == 0x97 && sent_message[1] == 3);
	feed("\x93\x11\x01\x10", 4);
	mooring_poll(&t.m, t.tick);
	assert(mooring_waiting(&t.m) == 0);
	mooring_poll(&t.m, t.tick += 30000);
	assert(sent_messages == 4 && sent_length == 2 && sent_message[1] == 5); /* PING */
	mooring_poll(&t.m, t.tick += 10000);
	assert(sent_messages == 4);
	feed("\x93\x14\xc0\x01", 4);
	mooring_poll(&t.m, t.tick += 1000);
	mooring_poll(&t.m, t.tick += 59999);
	assert(t.m.state == CONNECTED);
	mooring_poll(&t.m, t.tick += 1);
	assert(t.m.state == IDLE);
}

/* A transport that speaks WebSocket itself tells of Retry-After (PROTOCOL 9.2). */
static uint32_t said;
static int refused_open(void *c)
{
	(void)c;
	mooring_retry_after(&t.m, said);
	return -502;
}

static void test_retry_after(void)
{
	uint64_t sum = 0;
	for (int i = 0; i < 200; i++) {
		begin_test(1024);
		t.seed = 77u + (uint32_t)i * 2654435761u;
		config.messages = true;
		config.open = refused_open;
		said = i < 199 ? 12 : UINT32_MAX;
		mooring_poll(&t.m, t.tick);
		assert(t.m.ended == 502 && t.m.state == IDLE);
		uint32_t wait = t.m.pause, least = i < 199 ? 12000 : 86400000;
		assert(wait >= least && wait < least + 5000);
		sum += wait - least;
	}
	assert(sum / 200 > 1500 && sum / 200 < 3500); /* at random */
}
#endif

/* The figures of README.md: rows in 4 KiB of ring. */
static void test_capacity(void)
{
	static const struct mooring_channel five[] = {{"a", 0, 0, 0}, {"b", 0, 0, 0}, {"c", 0, 0, 0}, {"d", 0, 0, 0}, {"e", 0, 0, 0}};
	static const struct mooring_layout tables[] = {{"five", five, 5}, {"wave", wave, 1}};
	int rows[3] = {0};
	for (int kind = 0; kind < 2 + MOORING_BLOCKS; kind++) {
		struct mooring_value v[5];
		int16_t numbers[50] = {0};
		begin_test(4096);
		config.layouts = tables;
		mooring_set_time(&t.m, T0);
		for (int i = 0; i < 5; i++)
			v[i] = kind == 0 ? mooring_int(1000 + i) : mooring_float(1.5f);
		while (kind < 2 ? mooring_append(&t.m, 0, MOORING_NOW, v) : mooring_append_packed(&t.m, 1, MOORING_NOW, 20000, 50, 2, numbers))
			rows[kind] += kind < 2 ? 1 : 50;
	}
	printf("rows in 4 KiB: %d of five int16, %d of five float, %d packed int16\n", rows[0], rows[1], rows[2]);
	assert(rows[0] == 170 && rows[1] == 120 && (rows[2] == 1750 || !MOORING_BLOCKS));
}

/* At random: rows, blocks, acks, cuts, lines that stall; and at the end each row
 * that was appended was acknowledged in its place or counted as lost. */
static void test_anything(uint32_t seed)
{
	begin_test(200 + seed * 37 % 1500);
	t.seed = seed * 2654435761u + 1;
	config.drop_oldest = seed & 1;
	static int64_t values[40000]; /* by number; -1: lost or a block */
	uint64_t appended = 0, lost_before = 0;
	memset(values, 0xff, sizeof values);
	if (seed & 2)
		mooring_set_time(&t.m, T0);
	for (int step = 0; step < 3000; step++) {
		uint32_t r = test_random(NULL) >> 8;
		int16_t numbers[30] = {0};
		uint64_t next = t.m.head_seq + t.m.waiting + t.m.gap;
		if (r % 10 < 4) {
			assert(next == appended);
			if (row((int)(appended & 0x7fff)))
				values[appended] = (int64_t)(appended & 0x7fff);
			appended++;
		} else if (r % 10 == 4) {
			uint16_t n = (uint16_t)(1 + r / 16 % 30);
			mooring_append_packed(&t.m, 1, MOORING_NOW, 1000, n, 2, numbers);
			appended += n;
		} else if (r % 10 == 5) {
			t.piece = r / 16 % 40;
			t.room = r % 3 ? SIZE_MAX : r / 16 % 100;
		} else if (r % 50 == 6) {
			t.broken = 1;
		} else if (r % 10 == 7 && t.next > 0) {
			ack(t.next - (r / 16) % (t.next < 5 ? 1 : 5), 1 + r / 16 % 10);
		} else {
			turn(r % 1000);
		}
		for (size_t i = 0; i < t.row_count; i++) {
			assert((uint64_t)t.rows[i][0] < appended);
			if (t.rows[i][2] != INT64_MIN)
				assert(t.rows[i][2] == values[t.rows[i][0]]);
		}
		assert(t.m.lost >= lost_before && t.m.link.flights <= MOORING_WINDOW);
		lost_before = t.m.lost;
		assert(t.m.head_seq + t.m.waiting + t.m.gap == appended);
	}
	t.room = SIZE_MAX;
	t.piece = 0;
	for (int i = 0; i < 2000 && t.m.waiting > 0; i++) {
		turn(100);
		if (t.next > 0)
			ack(t.next, 16);
		if (i % 50 == 49)
			turn(700000);
	}
	/* A gap at the end is told by the row after it, if ever there is one. */
	assert(t.m.waiting == 0 || t.m.state != CONNECTED);
	assert(t.m.connects > 3);
}

int main(void)
{
	test_acceptance();
#ifdef MOORING_SHA1
	test_no_sha1();
#endif
	test_classes();
	test_first_words();
	test_clock();
	test_window();
	test_reconnect();
	test_full();
	test_bad_limits();
	test_room_before_a_gap();
	test_unwanted_behind_a_gap();
	test_window_of_what_made_room();
	test_blocks();
	test_fragments_and_pings();
	test_faults_of_the_server();
	test_heartbeat();
	test_waits();
	test_goaway();
	test_notices();
	test_refusals();
	test_poison();
	test_too_large();
	test_poison_made_room();
	test_blanks();
	test_close_codes();
#if MOORING_FLASH
	test_restore_short();
	test_mirror();
#endif
	test_start_again();
	test_commands();
	test_linger();
#if MOORING_MESSAGES
	test_messages();
	test_retry_after();
#endif
	test_capacity();
	for (uint32_t seed = 1; seed <= 200; seed++)
		test_anything(seed);
	puts("all passed");
	return 0;
}
