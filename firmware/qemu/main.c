/* The client as a program of a Cortex-M3 (QEMU's mps2-an385), without operating
 * system and C library. Its serial line is the TCP connection to the server:
 *
 *   qemu-system-arm -M mps2-an385 -nographic -kernel program.elf \
 *     -chardev socket,id=line,host=127.0.0.1,port=8080 -serial chardev:line \
 *     -monitor none -semihosting-config enable=on,target=native,arg=device,arg=TOKEN,arg=ROWS
 *
 * It sends ROWS rows, like posix/main.c, waits until they are settled, and says
 * so over semihosting. There is one connection: a serial line can't be opened
 * twice. */
#include "../mooring.h"

/* What the machine has: ARM's "Cortex-M System Design Kit". */
#define UART ((volatile uint32_t *)0x40004000u) /* data, state, control, -, divider */
#define TIMER ((volatile uint32_t *)0x40000000u) /* control, value, reload: counts down at 25 MHz */

extern uint32_t stack_top[], bss_start[], bss_end[], data_start[], data_end[], data_load[];
int main(void);
void reset(void);

/* The compiler may call these. */
void *memcpy(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;
	while (n-- > 0)
		*t++ = *f++;
	return to;
}
void *memmove(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;
	if (t < f)
		return memcpy(to, from, n);
	while (n-- > 0)
		t[n] = f[n];
	return to;
}
void *memset(void *to, int byte, size_t n)
{
	uint8_t *t = to;
	while (n-- > 0)
		*t++ = (uint8_t)byte;
	return to;
}
int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;
	for (; n > 0; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
size_t strlen(const char *s)
{
	size_t n = 0;
	while (s[n] != 0)
		n++;
	return n;
}

/* Semihosting: the debugger's, here QEMU's, services. */
static int host(int service, const void *argument)
{
	register int r0 __asm__("r0") = service;
	register const void *r1 __asm__("r1") = argument;
	__asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
	return r0;
}

static void say(const char *text) { host(0x04, text); }

static void say_number(const char *what, uint32_t number)
{
	char text[12];
	int at = 11;
	text[at] = 0;
	do {
		text[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	say(what);
	say(text + at);
}

static void leave_machine(bool well)
{
	uint32_t why[2] = {well ? 0x20026u : 0x20023u, 0};
	host(0x18, (const void *)(uintptr_t)why[0]);
	for (;;)
		;
}

static int line_open(void *context)
{
	(void)context;
	UART[4] = 16;
	UART[2] = 3; /* both directions */
	return 1;
}

static int line_send(void *context, const uint8_t *bytes, size_t length)
{
	(void)context;
	size_t sent = 0;
	while (sent < length && (UART[1] & 1) == 0)
		UART[0] = bytes[sent++];
	return (int)sent;
}

static int line_recv(void *context, uint8_t *bytes, size_t length)
{
	(void)context;
	size_t got = 0;
	while (got < length && (UART[1] & 2) != 0)
		bytes[got++] = (uint8_t)UART[0];
	return (int)got;
}

static void line_close(void *context, uint16_t code)
{
	(void)context;
	(void)code;
}

static uint32_t seed;

static uint32_t line_random(void *context)
{
	(void)context;
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

/* now_ms extends the timer, which counts 25,000 a millisecond. */
static uint32_t now_ms(void)
{
	static uint32_t before = UINT32_MAX, rest, ms;
	uint32_t value = TIMER[1], passed = before - value;
	before = value;
	rest += passed % 25000;
	ms += passed / 25000 + rest / 25000;
	rest %= 25000;
	return ms;
}

static const struct mooring_channel steady[] = {{"n", NULL, MOORING_NUMBER, 0}, {"text", NULL, MOORING_STRING, 0}};
static const struct mooring_channel burst[] = {{"n", NULL, MOORING_NUMBER, 0}};
static const struct mooring_layout layouts[] = {{"steady", steady, 2}, {"burst", burst, 1}};

static struct mooring m;
static struct mooring_config config;
static uint8_t memory[4096];

static uint32_t make(uint32_t number, uint32_t call)
{
	if (call % 10 == 9) {
		int16_t numbers[8];
		for (uint32_t i = 0; i < 8; i++)
			numbers[i] = (int16_t)(number + i);
		mooring_append_packed(&m, 1, MOORING_NOW, 1000, 8, 2, numbers);
		return 8;
	}
	char text[12];
	int at = 11;
	text[at] = 0;
	uint32_t digits = number;
	do {
		text[--at] = (char)('0' + digits % 10);
		digits /= 10;
	} while (digits > 0);
	text[--at] = 'r';
	struct mooring_value values[] = {mooring_int((int32_t)number), mooring_text(text + at)};
	mooring_append(&m, 0, MOORING_NOW, values);
	return 1;
}

int main(void)
{
	static char line[300];
	struct { char *text; uint32_t length; } command = {line, sizeof line};
	host(0x15, &command); /* "device TOKEN ROWS" */
	char *token = line, *rows_text;
	while (*token != ' ' && *token != 0)
		token++;
	token++;
	rows_text = token;
	while (*rows_text != ' ' && *rows_text != 0)
		rows_text++;
	*rows_text++ = 0;
	uint32_t rows = 0;
	while (*rows_text >= '0' && *rows_text <= '9')
		rows = 10 * rows + (uint32_t)(*rows_text++ - '0');

	TIMER[2] = UINT32_MAX;
	TIMER[1] = UINT32_MAX;
	TIMER[0] = 1;
	seed = 2463534242u; /* a device takes what its hardware has */
	for (const char *c = token; *c != 0; c++)
		seed = seed * 31 + (uint8_t)*c;

	config.host = "qemu";
	config.path = "/v1/stream";
	config.token = token;
	config.model = "mps2-an385";
	config.layouts = layouts;
	config.layout_count = 2;
	config.open = line_open;
	config.send = line_send;
	config.recv = line_recv;
	config.close = line_close;
	config.random = line_random;
	if (rows == 0 || !mooring_init(&m, &config, memory, sizeof memory, 512, now_ms())) {
		say("usage: arg=device,arg=TOKEN,arg=ROWS\n");
		leave_machine(false);
	}
	uint32_t made = 0, calls = 0;
	while (made < rows || mooring_waiting(&m) > 0) {
		uint32_t now = now_ms();
		if (made < rows && now >= calls * 2 && mooring_waiting(&m) < 60) {
			made += make(made, calls);
			calls++;
		}
		mooring_poll(&m, now);
		if (m.connects > 0 && m.state == 0)
			break; /* the line is gone for good */
	}
	bool well = mooring_waiting(&m) == 0;
	mooring_stop(&m);
	say_number("made ", made);
	say_number(" settled ", (uint32_t)m.head_seq);
	say_number(" lost ", m.lost);
	say_number(" rejected ", m.rejected);
	say_number(" connects ", m.connects);
	say("\n");
	leave_machine(well);
	return 0;
}

void reset(void)
{
	for (uint32_t *at = bss_start; at < bss_end; at++)
		*at = 0;
	uint32_t *from = data_load;
	for (uint32_t *at = data_start; at < data_end; at++)
		*at = *from++;
	main();
}

static void fault(void)
{
	say("fault\n");
	leave_machine(false);
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
	(void (*)(void))(uintptr_t)stack_top, reset, fault, fault, fault, fault, fault,
};
