/* The least that a device does: it makes rows and polls. It is linked to see what
 * of the client and of the libraries that takes; it does not run anywhere. The
 * transport, the clock and the random numbers are a device's own. */
#include "../mooring.h"

static int line_open(void *context) { return context != NULL; }
static int line_send(void *context, const uint8_t *bytes, size_t length) { return context != NULL && bytes != NULL ? (int)length : -1; }
static int line_recv(void *context, uint8_t *bytes, size_t length) { return context != NULL && bytes != NULL && length > 0 ? 0 : -1; }
static void line_close(void *context, uint16_t code) { (void)context, (void)code; }
static uint32_t line_random(void *context) { return (uint32_t)(uintptr_t)context; }

#ifdef MOORING_SHA1
int MOORING_SHA1(const uint8_t *bytes, size_t length, uint8_t digest[20]) { return bytes != NULL && length > 0 && digest != NULL ? -1 : 0; }
#endif

static volatile uint32_t clock_ms, sensor;

static const struct mooring_channel air[] = {{"temperature", "C", MOORING_NUMBER, -1}};
static const struct mooring_layout layouts[] = {{"air", air, 1}};
static const struct mooring_config config = {
	.host = "example.org", .path = "/v1/stream", .token = "token", .layouts = layouts, .layout_count = 1,
	.open = line_open, .send = line_send, .recv = line_recv, .close = line_close, .random = line_random,
};
static struct mooring m;
static uint8_t memory[2048];

void reset(void);

void reset(void)
{
	mooring_init(&m, &config, memory, sizeof memory, 512, clock_ms);
	for (;;) {
		struct mooring_value value = mooring_int((int32_t)sensor);
		mooring_append(&m, 0, MOORING_NOW, &value);
		mooring_poll(&m, clock_ms);
	}
}
