// One room: shows what arrives over the WebSocket, sends what is typed, and finds its
// way back after a lost connection without missing or repeating a message.
"use strict";

const list = document.getElementById("messages");
const composer = document.getElementById("composer");
const status = document.getElementById("status");
const { room, me } = list.dataset;
const FIRST_DELAY = 500; // milliseconds before the first new attempt; each one doubles it
const LONGEST_DELAY = 15000;
// Of messages sent at the same moment a later one may arrive first. So the page asks a little
// further back than it has seen, and puts each message where its id belongs.
const OVERLAP = 20;

let socket;
let delay = FIRST_DELAY;
let newest = 0;

function dress(item) {
  item.classList.toggle("mine", item.dataset.author === me);
  const time = item.querySelector("time");
  time.textContent = new Date(time.dateTime).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  newest = Math.max(newest, Number(item.dataset.id));
}

function add(message) {
  if (list.querySelector(`[data-id="${message.id}"]`)) return;
  const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const item = document.createElement("li");
  item.dataset.id = message.id;
  item.dataset.author = message.author;
  for (const [tag, name, text] of [["b", "author", message.author], ["p", "text", message.text], ["time", "", ""]]) {
    const part = document.createElement(tag);
    part.className = name;
    part.textContent = text;
    item.append(part);
  }
  item.querySelector("time").dateTime = message.sent_at;
  dress(item);
  const before = [...list.children].findLast((other) => Number(other.dataset.id) < message.id);
  if (before) before.after(item);
  else list.prepend(item);
  if (wasAtEnd || message.author === me) scrollToEnd();
}

function scrollToEnd() {
  list.scrollTop = list.scrollHeight;
}

function show(state) {
  status.dataset.state = state;
  status.textContent = { connecting: "connecting", open: "live", closed: "offline, trying again" }[state];
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/ws/rooms/${room}/?after=${Math.max(0, newest - OVERLAP)}`);
  socket.onopen = () => {
    delay = FIRST_DELAY;
    show("open");
  };
  socket.onmessage = (event) => add(JSON.parse(event.data));
  socket.onclose = () => {
    show("closed");
    setTimeout(connect, delay);
    delay = Math.min(delay * 2, LONGEST_DELAY);
  };
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = composer.elements.text;
  if (!field.value.trim() || socket.readyState !== WebSocket.OPEN) return;
  socket.send(field.value);
  field.value = "";
});

composer.elements.text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    composer.requestSubmit();
  }
});

list.querySelectorAll("li").forEach(dress);
scrollToEnd();
connect();
