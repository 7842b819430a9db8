/* Rows of temperature and battery, one a minute by default. See ../README.md. */
#include <stdbool.h> /* before esp_crt_bundle.h, which lacks it in ESP-IDF 5.5 */
#include <string.h>
#include <strings.h>
#include <time.h>

#include "esp_crt_bundle.h"
#include "esp_event.h"
#include "esp_netif.h"
#include "esp_netif_sntp.h"
#include "esp_random.h"
#include "esp_timer.h"
#include "esp_websocket_client.h"
#include "freertos/FreeRTOS.h"
#include "freertos/message_buffer.h"
#include "nvs_flash.h"
#include "protocol_examples_common.h"

#include "mooring.h"

#define HEADERS "Authorization: Bearer " CONFIG_MOORING_TOKEN "\r\n" /* menuconfig, Mooring */
#define FRAME 1024 /* bytes of the largest message; the component would cut larger ones up */
#define SERVER_AT_FAULT -4001 /* what the client makes of a bad frame: come back soon */

static struct mooring device;

static struct {
	esp_websocket_client_handle_t socket;
	MessageBufferHandle_t messages; /* from the component's task to ours */
	uint8_t message[MOORING_RX];
	volatile int up, ended; /* ended: what recv and open return then */
	volatile uint16_t goodbye; /* the code to close with, if it isn't the client's */
	volatile uint32_t retry_after; /* seconds; 0: not said */
} line;

/* end keeps the first reason of all that come. */
static void end(int why, uint16_t goodbye)
{
	if (line.ended != 0)
		return;
	line.goodbye = goodbye;
	line.ended = why;
}

static void on_data(const esp_websocket_event_data_t *d)
{
	if (d->op_code == 0x08) {
		end(d->data_len >= 2 ? -((uint8_t)d->data_ptr[0] << 8 | (uint8_t)d->data_ptr[1]) : -1005, 0);
	} else if (d->op_code == 0x01) {
		end(SERVER_AT_FAULT, 4204);
	} else if (d->op_code > 0x02) {
		return; /* the component answers Pings */
	} else if (!d->fin || d->payload_len > MOORING_RX || d->payload_offset + d->data_len > MOORING_RX) {
		end(SERVER_AT_FAULT, 1009); /* this server neither sends that much nor fragments */
	} else if (line.ended == 0) {
		memcpy(line.message + d->payload_offset, d->data_ptr, d->data_len);
		if (d->payload_offset + d->data_len == d->payload_len &&
		    xMessageBufferSend(line.messages, line.message, d->payload_len, pdMS_TO_TICKS(1000)) == 0)
			end(-1, 0); /* our task takes nothing: nothing may be missing in between */
	}
}

static void on_event(void *context, esp_event_base_t base, int32_t event, void *data)
{
	const esp_websocket_event_data_t *d = data;
	if (event == WEBSOCKET_EVENT_CONNECTED) {
		line.up = 1;
	} else if (event == WEBSOCKET_EVENT_DATA) {
		on_data(d);
#if WS_TRANSPORT_HEADER_CALLBACK_SUPPORT /* from ESP-IDF 6.0 and component 1.6 on */
	} else if (event == WEBSOCKET_EVENT_HEADER_RECEIVED) {
		static const char name[] = "retry-after:";
		int at = sizeof name - 1;
		uint32_t seconds = 0;
		if (d->data_len <= at || strncasecmp(d->data_ptr, name, at) != 0)
			return;
		while (at < d->data_len && d->data_ptr[at] == ' ')
			at++;
		for (; at < d->data_len && d->data_ptr[at] >= '0' && d->data_ptr[at] <= '9' && seconds < 86400; at++)
			seconds = 10 * seconds + d->data_ptr[at] - '0';
		line.retry_after = seconds;
#endif
	} else if (event == WEBSOCKET_EVENT_DISCONNECTED || event == WEBSOCKET_EVENT_CLOSED || event == WEBSOCKET_EVENT_ERROR) {
		int status = d == NULL ? 0 : d->error_handle.esp_ws_handshake_status_code;
		end(status > 101 ? -status : -1, 0);
	}
}

/* Certificates begin and end, and a chip starts in 1970. */
static bool waits_for_clock(void)
{
#if CONFIG_MBEDTLS_HAVE_TIME_DATE
	return strncmp(CONFIG_MOORING_URL, "wss", 3) == 0 && time(NULL) < 1767225600; /* 2026 */
#else
	return false;
#endif
}

static int line_open(void *context)
{
	if (waits_for_clock())
		return 0;
	if (line.socket == NULL) {
		const esp_websocket_client_config_t config = {
			.uri = CONFIG_MOORING_URL, .headers = HEADERS, .subprotocol = "mooring.v1",
			.buffer_size = FRAME, .network_timeout_ms = 10000,
			.disable_auto_reconnect = true, .crt_bundle_attach = esp_crt_bundle_attach,
		};
		line.up = line.ended = 0;
		line.retry_after = line.goodbye = 0;
		xMessageBufferReset(line.messages);
		line.socket = esp_websocket_client_init(&config);
		esp_websocket_register_events(line.socket, WEBSOCKET_EVENT_ANY, on_event, NULL);
		if (esp_websocket_client_start(line.socket) != ESP_OK)
			return -1;
	}
	if (!line.up && line.ended != 0 && line.retry_after != 0)
		mooring_retry_after(&device, line.retry_after);
	return line.up ? 1 : line.ended;
}

static int line_send(void *context, const uint8_t *bytes, size_t length)
{
	/* On a line that has ended, as on a socket, what is sent is lost, and what came
	 * before its end is read first: a GOAWAY, and why it ended. */
	if (line.ended == 0 && esp_websocket_client_send_bin(line.socket, (const char *)bytes, length, pdMS_TO_TICKS(5000)) != (int)length)
		end(-1, 0);
	return (int)length;
}

static int line_recv(void *context, uint8_t *bytes, size_t length)
{
	int ended = line.ended; /* before the messages: those that came before it are taken first */
	size_t got = xMessageBufferReceive(line.messages, bytes, length, 0);
	return got > 0 ? (int)got : ended;
}

static void line_close(void *context, uint16_t code)
{
	if (line.socket == NULL)
		return;
	if (line.goodbye != 0)
		code = line.goodbye;
	if (code != 0 && esp_websocket_client_is_connected(line.socket)) {
		/* Not _close_with_code: that may wait without end on a line that takes nothing. */
		const uint8_t body[] = {code >> 8, code & 0xff};
		esp_websocket_client_send_with_opcode(line.socket, WS_TRANSPORT_OPCODES_CLOSE, body, 2, pdMS_TO_TICKS(1000));
	}
	esp_websocket_client_destroy(line.socket);
	line.socket = NULL;
}

static uint32_t line_random(void *context) { return esp_random(); }

static const struct mooring_channel air[] = {{"temperature", "°C", MOORING_NUMBER, -1}, {"battery", "V", MOORING_NUMBER, -3}};
static const struct mooring_layout layouts[] = {{"air", air, 2}};
static const struct mooring_config config = {
	.model = "esp32", .firmware = "1.0", .layouts = layouts, .layout_count = 1,
	.drop_oldest = true,
	.open = line_open, .send = line_send, .recv = line_recv, .close = line_close, .random = line_random,
};

static uint32_t now_ms(void) { return (uint32_t)(esp_timer_get_time() / 1000); }

static void device_task(void *context)
{
	static uint8_t memory[16 * 1024];
	ESP_ERROR_CHECK(mooring_init(&device, &config, memory, sizeof memory, FRAME, now_ms()) ? ESP_OK : ESP_ERR_INVALID_SIZE);
	for (uint32_t due = now_ms();;) {
		if ((int32_t)(now_ms() - due) >= 0) {
			struct mooring_value values[] = {mooring_int(215), mooring_int(3712)}; /* your sensors */
			mooring_append(&device, 0, MOORING_NOW, values);
			due += CONFIG_MOORING_PERIOD_MS;
		}
		uint32_t wait = mooring_poll(&device, now_ms());
		vTaskDelay(pdMS_TO_TICKS(wait < 50 ? wait : 50) + 1);
	}
}

void app_main(void)
{
	ESP_ERROR_CHECK(nvs_flash_init());
	ESP_ERROR_CHECK(esp_netif_init());
	ESP_ERROR_CHECK(esp_event_loop_create_default());
	ESP_ERROR_CHECK(example_connect());
#if CONFIG_MBEDTLS_HAVE_TIME_DATE && !CONFIG_IDF_TARGET_LINUX /* which has a clock */
	esp_sntp_config_t ntp = ESP_NETIF_SNTP_DEFAULT_CONFIG("pool.ntp.org");
	ESP_ERROR_CHECK(esp_netif_sntp_init(&ntp));
#endif
	line.messages = xMessageBufferCreate(2048);
	xTaskCreate(device_task, "mooring", 6144, NULL, 5, NULL);
}
