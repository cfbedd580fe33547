// The page works without this file. It adds live updates, running clocks, the span panel and the keyboard.
"use strict";

const live = document.getElementById("live");
const panel = document.getElementById("panel");
let chosen = new URLSearchParams(location.search).get("span");

const rows = () => [...document.querySelectorAll("tr[data-id]")];

const find = (id) => id === null ? null : document.querySelector(`tr[data-id="${CSS.escape(id)}"]`);

function mark(scroll) {
  const before = document.querySelector("tr.chosen"), row = find(chosen);
  if (before && before !== row) {
    before.classList.remove("chosen");
    before.removeAttribute("aria-current");
  }
  if (!row) return;
  row.classList.add("chosen");
  row.setAttribute("aria-current", "true");
  if (scroll) row.scrollIntoView({ block: "nearest" });
}

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.dataset.id === chosen);
  const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
  chosen = next.dataset.id;
  mark(true);
  if (panel) show(next.querySelector("a").href);
}

// Time

function took(seconds) {
  if (seconds < 60) return `${Math.max(0, seconds).toFixed(0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor(minutes / 60) % 24} h`;
}

function tick() {
  for (const clock of document.querySelectorAll(".running")) {
    clock.textContent = took(Date.now() / 1000 - Number(clock.dataset.since));
  }
}

// Live updates

async function refresh() {
  const address = new URL(location.href);
  address.searchParams.delete("span");
  address.searchParams.set("fragment", "1");
  const answer = await fetch(address);
  if (!answer.ok) return;
  live.innerHTML = await answer.text();
  mark(false);
  tick();
  wire();
}

function listen() {
  const every = Number(live.dataset.every) * 1000;
  let version = live.dataset.version, busy = false, again = false;
  const update = async () => {
    if (busy) { again = true; return; }
    busy = true;
    const began = performance.now();
    try { await refresh(); } catch (error) { console.warn(error); }
    // A large page is drawn less often, so that looking costs the machine little.
    const pause = Math.max(every, 4 * (performance.now() - began));
    setTimeout(() => { busy = false; if (again) { again = false; update(); } }, pause);
  };
  new EventSource(live.dataset.events).onmessage = (event) => {
    if (event.data !== version) update();
    version = event.data;
  };
}

// The panel of a span

async function show(address) {
  const url = new URL(address);
  history.replaceState(null, "", url);
  const answer = await fetch(`/trace/span${url.search}`);
  if (url.searchParams.get("span") !== chosen) return; // another span was chosen meanwhile
  panel.innerHTML = answer.ok ? await answer.text() : "<p>This span can't be read.</p>";
}

function wire() {
  const copy = document.getElementById("copy");
  if (!copy || !navigator.clipboard) return;
  copy.hidden = false;
  copy.onclick = async () => {
    const answer = await fetch(document.getElementById("rows").href);
    await navigator.clipboard.writeText(await answer.text());
    copy.textContent = "Copied";
  };
}

document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-id]");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  chosen = row.dataset.id;
  mark(false);
  const link = row.querySelector("a");
  if (panel) {
    event.preventDefault();
    show(link.href);
  } else if (event.target.closest("a") === null && getSelection().isCollapsed) {
    location.href = link.href;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (panel) location.href = document.referrer.startsWith(`${location.origin}/?`) ? document.referrer : "/";
    else if (location.search) location.href = "/";
  } else if (typing) {
    return;
  } else if (event.key === "j" || event.key === "ArrowDown") {
    event.preventDefault();
    move(1);
  } else if (event.key === "k" || event.key === "ArrowUp") {
    event.preventDefault();
    move(-1);
  } else if (event.key === "Enter" && !panel && chosen && event.target.closest("a, button") === null) {
    const row = find(chosen);
    if (row) location.href = row.querySelector("a").href;
  } else if (event.key === "/") {
    const search = document.getElementById("search");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});

const filters = document.querySelector("form.filters");
if (filters) {
  // Empty fields stay out of the address.
  const submit = () => {
    const wanted = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
    location.href = `/?${wanted}`;
  };
  filters.addEventListener("change", submit);
  filters.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
}

if (live) listen();
mark(true);
wire();
tick();
setInterval(tick, 1000);
