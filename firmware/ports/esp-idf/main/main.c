/* A row of temperature and battery a minute. See ../README.md. */
#include "esp_crt_bundle.h"
#include "esp_event.h"
#include "esp_netif.h"
#include "esp_random.h"
#include "esp_timer.h"
#include "esp_websocket_client.h"
#include "freertos/FreeRTOS.h"
#include "freertos/message_buffer.h"
#include "nvs_flash.h"
#include "protocol_examples_common.h"

#include "mooring.h"

#define HEADERS "Authorization: Bearer " CONFIG_MOORING_TOKEN "\r\n" /* menuconfig, Mooring */

static struct {
	esp_websocket_client_handle_t socket;
	MessageBufferHandle_t messages; /* from the component's task to ours */
	uint8_t message[MOORING_RX];
	volatile int up, ended; /* ended: what recv and open return then */
} line;

static void on_event(void *context, esp_event_base_t base, int32_t event, void *data)
{
	esp_websocket_event_data_t *d = data;
	if (event == WEBSOCKET_EVENT_CONNECTED) {
		line.up = 1;
	} else if (event == WEBSOCKET_EVENT_DATA && d->op_code == 0x08) {
		if (d->data_len >= 2)
			line.ended = -((uint8_t)d->data_ptr[0] << 8 | (uint8_t)d->data_ptr[1]);
	} else if (event == WEBSOCKET_EVENT_DATA && d->op_code <= 0x02) {
		if (d->payload_len > MOORING_RX || d->payload_offset + d->data_len > MOORING_RX || !d->fin) {
			line.ended = -1009; /* this server neither sends that much nor fragments */
			return;
		}
		memcpy(line.message + d->payload_offset, d->data_ptr, d->data_len);
		if (d->payload_offset + d->data_len == d->payload_len)
			xMessageBufferSend(line.messages, line.message, d->payload_len, pdMS_TO_TICKS(1000));
	} else if (event == WEBSOCKET_EVENT_DISCONNECTED || event == WEBSOCKET_EVENT_CLOSED || event == WEBSOCKET_EVENT_ERROR) {
		int status = d == NULL ? 0 : d->error_handle.esp_ws_handshake_status_code;
		if (line.ended == 0)
			line.ended = status >= 300 ? -status : -1;
	}
}

static int line_open(void *context)
{
	if (line.socket == NULL) {
		const esp_websocket_client_config_t config = {
			.uri = CONFIG_MOORING_URL, .headers = HEADERS, .subprotocol = "mooring.v1",
			.disable_auto_reconnect = true, .crt_bundle_attach = esp_crt_bundle_attach,
		};
		line.up = line.ended = 0;
		xMessageBufferReset(line.messages);
		line.socket = esp_websocket_client_init(&config);
		esp_websocket_register_events(line.socket, WEBSOCKET_EVENT_ANY, on_event, NULL);
		if (esp_websocket_client_start(line.socket) != ESP_OK)
			return -1;
	}
	return line.up ? 1 : line.ended;
}

static int line_send(void *context, const uint8_t *bytes, size_t length)
{
	int sent = esp_websocket_client_send_bin(line.socket, (const char *)bytes, length, pdMS_TO_TICKS(5000));
	return sent == (int)length ? sent : -1;
}

static int line_recv(void *context, uint8_t *bytes, size_t length)
{
	size_t got = xMessageBufferReceive(line.messages, bytes, length, 0);
	return got > 0 ? (int)got : line.ended;
}

static void line_close(void *context, uint16_t code)
{
	if (line.socket == NULL)
		return;
	if (line.up && line.ended == 0 && code != 0)
		esp_websocket_client_close_with_code(line.socket, code, NULL, 0, pdMS_TO_TICKS(1000));
	esp_websocket_client_destroy(line.socket);
	line.socket = NULL;
}

static uint32_t line_random(void *context) { return esp_random(); }

static const struct mooring_channel air[] = {{"temperature", "°C", MOORING_NUMBER, -1}, {"battery", "V", MOORING_NUMBER, -3}};
static const struct mooring_layout layouts[] = {{"air", air, 2}};
static const struct mooring_config config = {
	.model = "esp32", .firmware = "1.0", .layouts = layouts, .layout_count = 1,
	.messages = true, .drop_oldest = true,
	.open = line_open, .send = line_send, .recv = line_recv, .close = line_close, .random = line_random,
};

static uint32_t now_ms(void) { return (uint32_t)(esp_timer_get_time() / 1000); }

static void device_task(void *context)
{
	static struct mooring m;
	static uint8_t memory[16 * 1024];
	mooring_init(&m, &config, memory, sizeof memory, 1024, now_ms());
	for (uint32_t due = now_ms();;) {
		if ((int32_t)(now_ms() - due) >= 0) {
			struct mooring_value values[] = {mooring_int(215), mooring_int(3712)}; /* your sensors */
			mooring_append(&m, 0, MOORING_NOW, values);
			due += 60000;
		}
		uint32_t wait = mooring_poll(&m, now_ms());
		vTaskDelay(pdMS_TO_TICKS(wait < 50 ? wait : 50) + 1);
	}
}

void app_main(void)
{
	ESP_ERROR_CHECK(nvs_flash_init());
	ESP_ERROR_CHECK(esp_netif_init());
	ESP_ERROR_CHECK(esp_event_loop_create_default());
	ESP_ERROR_CHECK(example_connect());
	line.messages = xMessageBufferCreate(2048);
	xTaskCreate(device_task, "mooring", 4096, NULL, 5, NULL);
}
