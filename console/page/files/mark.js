// States as a sign: told apart by shape and word, not by colour alone.
import { h } from "./dom.js";

const words = { online: "online", offline: "offline", disabled: "disabled" };

export function stateMark(state) {
  return setMark(h("span", { role: "img" }), state);
}

export function setMark(mark, state) {
  if (mark.dataset.state !== state) {
    mark.className = "mark";
    mark.dataset.state = state;
    mark.setAttribute("aria-label", words[state] ?? state);
  }
  return mark;
}
