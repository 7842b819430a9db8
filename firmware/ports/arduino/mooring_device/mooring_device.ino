// A row of temperature and battery a minute. See ../README.md.
#include <WiFi.h>
#include <WiFiClientSecure.h>

#include "mooring.h"

static const char *SERVER = "example.org";
static const uint16_t PORT = 443;

static WiFiClientSecure line;

static int line_open(void *) { return WiFi.status() == WL_CONNECTED && line.connect(SERVER, PORT) ? 1 : -1; }

static int line_send(void *, const uint8_t *bytes, size_t length) {
  if (!line.connected()) return -1;
  return (int)line.write(bytes, length);
}

static int line_recv(void *, uint8_t *bytes, size_t length) {
  if (line.available() > 0) return line.read(bytes, length);
  return line.connected() ? 0 : -1;
}

static void line_close(void *, uint16_t) { line.stop(); }

static uint32_t line_random(void *) { return esp_random(); }

static const struct mooring_channel air[] = {{"temperature", "°C", MOORING_NUMBER, -1}, {"battery", "V", MOORING_NUMBER, -3}};
static const struct mooring_layout layouts[] = {{"air", air, 2}};

static struct mooring_config config;  // filled in setup(): C++ before 20 names no fields
static struct mooring m;
static uint8_t memory[16 * 1024];

void setup() {
  WiFi.begin("network", "password");
  line.setInsecure();
  config.host = SERVER;
  config.path = "/v1/stream";
  config.token = "the device's token";
  config.model = "esp32";
  config.layouts = layouts;
  config.layout_count = 1;
  config.drop_oldest = true;
  config.open = line_open;
  config.send = line_send;
  config.recv = line_recv;
  config.close = line_close;
  config.random = line_random;
  while (!mooring_init(&m, &config, memory, sizeof memory, 1024, millis())) delay(1000);
}

void loop() {
  static uint32_t last = 0;
  if (last == 0 || millis() - last >= 60000) {
    last = millis();
    struct mooring_value values[] = {mooring_int(215), mooring_int(3712)};  // your sensors
    mooring_append(&m, 0, MOORING_NOW, values);
  }
  uint32_t wait = mooring_poll(&m, millis());
  delay(wait < 50 ? wait : 50);
}
