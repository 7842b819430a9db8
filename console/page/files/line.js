// One WebSocket to /v1/live.

// Nothing for so long, in ms, means that the line is dead: the server sends the
// fleet's figures every second, and readings as they come.
const silence = 8000;

export class Line {
  isOpen = false;
  #socket;
  #watchdog = 0;
  #ended = false;

  constructor(parameters, { open, message, closed }) {
    const url = new URL("/v1/live", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    for (const [name, value] of Object.entries(parameters)) {
      for (const each of [value].flat()) url.searchParams.append(name, each);
    }
    const guarded = String(parameters.events).includes("fleet");
    const end = () => {
      if (this.#ended) return;
      const wasOpen = this.isOpen;
      this.close();
      closed(wasOpen);
    };
    const heard = () => {
      clearTimeout(this.#watchdog);
      if (guarded) this.#watchdog = setTimeout(end, silence);
    };
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => {
      this.isOpen = true;
      heard();
      open();
    };
    this.#socket.onmessage = (event) => {
      if (this.#ended) return;
      heard();
      message(JSON.parse(event.data));
    };
    this.#socket.onclose = end;
  }

  subscribe(wishes) {
    if (this.isOpen) this.#socket.send(JSON.stringify({ type: "subscribe", ...wishes }));
  }

  // close ends it without a word to closed().
  close() {
    this.#ended = true;
    this.isOpen = false;
    clearTimeout(this.#watchdog);
    this.#socket.close();
  }
}
