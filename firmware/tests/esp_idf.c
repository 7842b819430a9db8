/* The transport of ports/esp-idf/main/main.c, on a computer: what the component says
 * of a connection, in which order, and what the client makes of it. */
#include <assert.h>
#include <stdio.h>

#include "esp_idf.h"

#include "../ports/esp-idf/main/main.c"

#include "../mooring.c"

#define AS(n) ((uint8_t)((n) >> 8)), ((uint8_t)(n))

/* --- A component that does what the test says --- */

static struct fake_client {
	int made, connected;
	void (*while_sending)(void); /* what happens then; what is sent fails */
	esp_event_handler_t handler;
	int sent, closed;
	uint8_t last[FRAME];
} fake;
static struct fake_buffer {
	size_t lengths[8], first, end;
	uint8_t bytes[8][MOORING_RX];
} buffer;
static uint32_t seed = 1;
static int64_t clock_us, ntp_at; /* ntp_at: when the clock is set */

esp_err_t esp_crt_bundle_attach(void *conf) { return conf != NULL; }
esp_websocket_client_handle_t esp_websocket_client_init(const esp_websocket_client_config_t *config)
{
	assert(config->disable_auto_reconnect && config->crt_bundle_attach == esp_crt_bundle_attach);
	assert(config->buffer_size >= FRAME); /* else messages are cut up */
	assert(strcmp(config->subprotocol, "mooring.v1") == 0);
	fake.made++;
	return &fake;
}
esp_err_t esp_websocket_register_events(esp_websocket_client_handle_t c, int event, esp_event_handler_t handler, void *context)
{
	assert(c == &fake && event == WEBSOCKET_EVENT_ANY && context == NULL);
	fake.handler = handler;
	return ESP_OK;
}
esp_err_t esp_websocket_client_start(esp_websocket_client_handle_t c) { return c == &fake ? ESP_OK : 1; }
esp_err_t esp_websocket_client_destroy(esp_websocket_client_handle_t c)
{
	assert(c == &fake && fake.made == 1);
	fake.made = fake.connected = 0;
	return ESP_OK;
}
bool esp_websocket_client_is_connected(esp_websocket_client_handle_t c) { return c == &fake && fake.connected; }
int esp_websocket_client_send_bin(esp_websocket_client_handle_t c, const char *data, int length, uint32_t ticks)
{
	assert(c == &fake && length <= FRAME && ticks > 0);
	assert(line.ended == 0); /* it would wait for the component's lock, for nothing */
	if (fake.while_sending != NULL) {
		fake.while_sending();
		return -1;
	}
	memcpy(fake.last, data, (size_t)length);
	fake.sent++;
	return length;
}
int esp_websocket_client_send_with_opcode(esp_websocket_client_handle_t c, int opcode, const uint8_t *data, int length, uint32_t ticks)
{
	assert(c == &fake && opcode == WS_TRANSPORT_OPCODES_CLOSE && length == 2 && ticks <= 1000);
	fake.closed = data[0] << 8 | data[1];
	return length;
}

MessageBufferHandle_t xMessageBufferCreate(size_t size) { return size > 0 ? &buffer : NULL; }
int xMessageBufferReset(MessageBufferHandle_t b)
{
	b->first = b->end = 0;
	return 1;
}
size_t xMessageBufferSend(MessageBufferHandle_t b, const void *data, size_t length, uint32_t ticks)
{
	if (b->end == 8 || ticks == 0)
		return 0;
	memcpy(b->bytes[b->end], data, length);
	b->lengths[b->end++] = length;
	return length;
}
size_t xMessageBufferReceive(MessageBufferHandle_t b, void *data, size_t length, uint32_t ticks)
{
	if (b->first == b->end || ticks != 0)
		return 0;
	assert(b->lengths[b->first] <= length);
	memcpy(data, b->bytes[b->first], b->lengths[b->first]);
	return b->lengths[b->first++];
}

uint32_t esp_random(void) { return seed = seed * 1664525 + 1013904223; }
int64_t esp_timer_get_time(void) { return clock_us; }
void vTaskDelay(uint32_t ticks) { clock_us += (int64_t)ticks * 1000; }
int xTaskCreate(void (*task)(void *), const char *name, uint32_t stack, void *context, unsigned priority, void *handle)
{
	return task == device_task && name != NULL && stack >= 4096 && context == NULL && priority > 0 && handle == NULL;
}
time_t fake_time(time_t *to)
{
	assert(to == NULL);
	return clock_us / 1000000 + (ntp_at >= 0 && clock_us >= ntp_at ? 1790000000 : 0);
}
esp_err_t esp_netif_sntp_init(const esp_sntp_config_t *ntp) { return ntp->server != NULL ? ESP_OK : 1; }
esp_err_t nvs_flash_init(void) { return ESP_OK; }
esp_err_t esp_netif_init(void) { return ESP_OK; }
esp_err_t esp_event_loop_create_default(void) { return ESP_OK; }
esp_err_t example_connect(void) { return ESP_OK; }

/* --- What the component says --- */

static void event(int32_t number, uint8_t opcode, const void *bytes, int length, int status)
{
	esp_websocket_event_data_t d = {.data_ptr = bytes, .data_len = length, .fin = true, .op_code = opcode, .payload_len = length};
	d.error_handle.esp_ws_handshake_status_code = status;
	fake.handler(NULL, NULL, number, &d);
}
static void message_came(const void *bytes, int length) { event(WEBSOCKET_EVENT_DATA, 2, bytes, length, 0); }
static void close_came(int code)
{
	const uint8_t body[] = {AS(code)};
	event(WEBSOCKET_EVENT_DATA, 8, body, 2, 0);
	fake.connected = 0; /* the component is closing: it sends no more */
	event(WEBSOCKET_EVENT_CLOSED, 8, NULL, 0, 0);
}

static void poll(uint32_t ms)
{
	clock_us += (int64_t)ms * 1000;
	mooring_poll(&device, now_ms());
}

/* begin makes a device, connected and welcomed, with nothing on its way. */
static void begin_test(void)
{
	static uint8_t memory[8192];
	if (line.socket != NULL)
		mooring_stop(&device);
	memset(&fake, 0, sizeof fake);
	clock_us += 1000000;
	app_main();
	assert(mooring_init(&device, &config, memory, sizeof memory, FRAME, now_ms()));
	poll(0);
	assert(device.state == OPENING && fake.made == 1);
}
static void connect_test(void)
{
	begin_test();
	fake.connected = 1;
	event(WEBSOCKET_EVENT_CONNECTED, 0, NULL, 0, 0);
	poll(10);
	assert(device.state == CONNECTED && fake.sent == 1 && fake.last[1] == 1); /* HELLO */
	const uint8_t welcome[] = {0x98, 16, 0xcf, 0, 0, 1, 0xa0, 0xc4, 0x70, 0x40, 0, 42, 30, 0xcd, 0x40, 0, 16, 5, 0xc0};
	message_came(welcome, sizeof welcome);
	poll(10);
	assert(device.welcomed && mooring_time(&device) > 0);
}
static void row(void)
{
	struct mooring_value values[] = {mooring_int(215), mooring_int(3712)};
	assert(mooring_append(&device, 0, MOORING_NOW, values));
}

/* --- The tests --- */

static void test_rows(void)
{
	connect_test();
	row();
	poll(10);
	assert(fake.sent == 3 && fake.last[1] == 3 && mooring_waiting(&device) == 1); /* LAYOUT, DATA */
	message_came("\x93\x11\x01\x10", 4);
	poll(10);
	assert(mooring_waiting(&device) == 0);
	mooring_stop(&device);
	assert(fake.closed == 1000 && fake.made == 0);
}

/* A message may come in pieces of one WebSocket frame. */
static void test_pieces(void)
{
	connect_test();
	row();
	poll(10);
	for (int at = 0; at < 4; at++) {
		esp_websocket_event_data_t d = {.data_ptr = "\x93\x11\x01\x10" + at, .data_len = 1, .fin = true, .op_code = 2, .payload_len = 4, .payload_offset = at};
		fake.handler(NULL, NULL, WEBSOCKET_EVENT_DATA, &d);
		poll(10);
		assert(mooring_waiting(&device) == (at < 3));
	}
}

/* PROTOCOL 3.1, M2: a text message is closed with 4204, and one too large with 1009. */
static void test_wrong_messages(void)
{
	static uint8_t large[MOORING_RX + 1];
	connect_test();
	event(WEBSOCKET_EVENT_DATA, 1, "hello", 5, 0);
	poll(10);
	assert(fake.closed == 4204 && device.ended == 4001 && device.state == IDLE);

	connect_test();
	event(WEBSOCKET_EVENT_DATA, 2, large, sizeof large, 0);
	poll(10);
	assert(fake.closed == 1009 && device.ended == 4001);

	connect_test();
	esp_websocket_event_data_t d = {.data_ptr = "\x93", .data_len = 1, .op_code = 2, .payload_len = 1}; /* no fin */
	fake.handler(NULL, NULL, WEBSOCKET_EVENT_DATA, &d);
	poll(10);
	assert(fake.closed == 1009 && device.ended == 4001);
}

/* PROTOCOL 9.3: a GOAWAY and right behind it the Close, while rows are being sent.
 * What came before the end counts, not that sending failed. */
static void goes_away(void)
{
	const uint8_t goaway[] = {0x98, 19, 3, 0xcd, AS(4000), 0, 0xcd, AS(3000), 0xcd, AS(3000), 0xc0, 0xc0};
	message_came(goaway, sizeof goaway);
	close_came(4000);
}
static void nothing(void) {}

static void test_end_while_sending(void)
{
	connect_test();
	row();
	poll(10);
	message_came("\x93\x11\x01\x10", 4); /* progress */
	poll(10);
	row();
	fake.while_sending = goes_away;
	poll(10);
	assert(device.state == IDLE && device.ended == 4000);
	assert(device.pause >= 3000 && device.pause < 4000);
	assert(mooring_waiting(&device) == 1 && fake.closed == 0);

	connect_test();
	row();
	fake.while_sending = nothing; /* the line breaks, and the component does not say so */
	poll(10);
	poll(10);
	assert(device.state == IDLE && device.ended == 0 && mooring_waiting(&device) == 1);
}

/* PROTOCOL 9.2: Retry-After is a lower bound. */
static void test_refused(void)
{
	static const char *const headers[] = {"Retry-After: 12\r\n", "retry-after:12", "RETRY-AFTER:   12 \r\n"};
	for (int i = 0; i < 3; i++) {
		begin_test();
		event(WEBSOCKET_EVENT_HEADER_RECEIVED, 0, "Date: 13\r\n", 10, 0);
		event(WEBSOCKET_EVENT_HEADER_RECEIVED, 0, headers[i], (int)strlen(headers[i]), 0);
		event(WEBSOCKET_EVENT_HEADER_RECEIVED, 0, "Retry-After", 11, 0);
		event(WEBSOCKET_EVENT_ERROR, 0, NULL, 0, 502);
		event(WEBSOCKET_EVENT_DISCONNECTED, 0, NULL, 0, 502);
		poll(10);
		assert(device.state == IDLE && device.ended == 502);
		assert(device.pause >= 12000 && device.pause < 17000);
	}
	begin_test(); /* the next one does not wait for the last one's */
	event(WEBSOCKET_EVENT_ERROR, 0, NULL, 0, 401);
	poll(10);
	assert(device.ended == 401 && device.told.is.slot == 0);
}

/* Messages that nobody fetches must not go missing in between. */
static void test_full_buffer(void)
{
	connect_test();
	for (int i = 0; i < 9; i++)
		message_came("\x93\x11\x00\x10", 4);
	message_came("\x93\x11\x01\x10", 4);
	poll(10);
	assert(device.state == IDLE && device.ended == 0);
}

/* Without the time no certificate is taken, and so no connection begun. */
static void test_clock(void)
{
	mooring_stop(&device);
	memset(&fake, 0, sizeof fake);
	ntp_at = clock_us + 12000000;
	mooring_start(&device);
	for (int i = 0; i < 11; i++) {
		poll(1000);
		assert(device.state == OPENING && fake.made == 0);
	}
	poll(1001);
	assert(device.state == OPENING && fake.made == 1);
	ntp_at = 0;
}

/* Why the component closed, in every way it says so. */
static void test_closes(void)
{
	connect_test();
	close_came(4501);
	poll(10);
	assert(device.ended == 4501 && device.pause >= 450000);
	connect_test();
	event(WEBSOCKET_EVENT_DATA, 8, "\x03", 1, 0);
	poll(10);
	assert(device.ended == 1005);
	connect_test();
	event(WEBSOCKET_EVENT_DATA, 9, "ping", 4, 0);
	event(WEBSOCKET_EVENT_DATA, 10, NULL, 0, 0);
	poll(10);
	assert(device.state == CONNECTED);
	fake.handler(NULL, NULL, WEBSOCKET_EVENT_DISCONNECTED, NULL);
	poll(10);
	assert(device.state == IDLE && device.ended == 0);
}

int main(void)
{
	test_rows();
	test_pieces();
	test_wrong_messages();
	test_rows(); /* again: nothing is left over */
	test_end_while_sending();
	test_refused();
	test_full_buffer();
	test_closes();
	test_clock();
	puts("all passed");
	return 0;
}
