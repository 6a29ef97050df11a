// The page of the person at the line. State is what the server says; nothing is computed twice.
const $ = (id) => document.getElementById(id);
const REFRESH_MS = 3000;
const BANDS = {
  accept: ["ACCEPT", "Looks like the good parts."],
  review: ["REVIEW", "Unusual for a good part: a person should look."],
  reject: ["REJECT", "More unusual than the threshold allows."],
};
const VERDICTS = { good: "really good", bad: "really bad" };
let categories = [];
let recent = [];
let shown = null;
let opacity = 65;
const views = new Map();

class Refused extends Error {}

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem("key");
  if (key) headers.set("X-API-Key", key);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused("The server does not answer. Is it running?");
  }
  if (answer.status === 401) {
    await askForKey();
    return call(path, options);
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const detail = typeof told.detail === "string" ? told.detail : JSON.stringify(told.detail ?? "");
    throw new Refused(detail || `The server answered ${answer.status}.`);
  }
  return answer;
}

let asking = null;
function askForKey() {
  asking ??= new Promise((resolve) => {
    $("ask").addEventListener("close", () => {
      sessionStorage.setItem("key", $("key").value);
      asking = null;
      resolve();
    }, { once: true });
    $("ask").showModal();
  });
  return asking;
}

function say(text, error = false) {
  $("message").textContent = text;
  $("message").className = error ? "error" : "";
  $("message").hidden = !text;
}

async function attempt(action) {
  try {
    return await action();
  } catch (problem) {
    say(problem.message, true);
    if (!(problem instanceof Refused)) throw problem;
    return null;
  }
}

// Images are fetched, not linked: a link carries no key.
function view(url) {
  if (!views.has(url)) {
    const loading = call(url).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
    loading.catch(() => views.delete(url));
    views.set(url, loading);
  }
  return views.get(url);
}

function forgetOldViews() {
  const kept = new Set([...recent, shown].filter(Boolean).flatMap((one) => [one.picture, one.map_png]));
  for (const [url, loading] of views) {
    if (kept.has(url)) continue;
    views.delete(url);
    loading.then((object) => URL.revokeObjectURL(object), () => {});
  }
}

const number = (value) => (value === null ? "–" : Number(value.toPrecision(4)).toString());
const category = () => categories.find((one) => one.name === $("category").value);

async function loadCategories() {
  const told = await (await call("/api/categories")).json();
  categories = told.categories;
  const select = $("category");
  const names = categories.map((one) => one.name);
  if (names.join("\n") !== [...select.options].map((one) => one.value).join("\n")) {
    const before = select.value || localStorage.getItem("category");
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(before)) select.value = before;
  }
  const stops = told.colours.map((colour, i) => `${colour} ${(100 * i) / (told.colours.length - 1)}%`);
  $("scale-bar").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  const chosen = category();
  if (!chosen) return;
  $("model").textContent = `model ${chosen.model_version}${chosen.problem ? " (a newer one was refused)" : ""}`;
  $("model").title = chosen.problem ?? "";
  showScale(chosen);
}

function showScale(chosen) {
  const fixed = chosen.scale_low !== null;
  $("scale-low").textContent = fixed ? number(chosen.scale_low) : "low";
  $("scale-high").textContent = fixed ? number(chosen.scale_high) : "high";
  $("scale-mark").hidden = !fixed;
  $("scale-note").textContent = fixed
    ? `same colours for every ${chosen.name}; mark: pixel threshold`
    : "not calibrated: colours are of this image alone";
  if (fixed) {
    const share = (chosen.pixel_threshold - chosen.scale_low) / (chosen.scale_high - chosen.scale_low);
    $("scale-mark").style.left = `${100 * Math.min(1, Math.max(0, share))}%`;
  }
}

async function loadRecent() {
  const query = new URLSearchParams({ category: $("category").value, count: "24" });
  const told = await (await call(`/api/images?${query}`)).json();
  const same = told.results.map((one) => one.id + one.review).join() === recent.map((one) => one.id + one.review).join();
  recent = told.results;
  if (!same || !$("recent").children.length) drawRecent();
}

function drawRecent() {
  const focused = document.activeElement?.dataset?.id;
  $("recent").replaceChildren(...recent.map((one) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.id = one.id;
    button.setAttribute("aria-current", String(one.id === shown?.id));
    button.title = one.name;
    const image = document.createElement("img");
    image.alt = "";
    view(one.picture).then((url) => { image.src = url; }, () => {});
    const tag = document.createElement("span");
    tag.className = `tag ${one.band ?? ""}`;
    tag.textContent = one.band ? BANDS[one.band][0] : number(one.score);
    const file = document.createElement("span");
    file.className = "file";
    file.textContent = one.review ? `✓ ${VERDICTS[one.review]}` : one.name;
    button.append(image, tag, file);
    button.addEventListener("click", () => attempt(() => show(one)));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  if (!recent.length) {
    const item = document.createElement("li");
    item.className = "muted";
    item.textContent = "None yet.";
    $("recent").append(item);
  }
  if (focused) document.querySelector(`#recent [data-id="${focused}"]`)?.focus();
  forgetOldViews();
}

async function show(one) {
  shown = one;
  for (const button of document.querySelectorAll("#recent button")) {
    const current = button.dataset.id === one.id;
    button.setAttribute("aria-current", String(current));
    // Of the list alone: the page stays where it is.
    if (current) $("recent").scrollLeft = button.offsetLeft - $("recent").offsetLeft - 130;
  }
  showVerdict(one);
  const [picture, map] = await Promise.all([view(one.picture), view(one.map_png)]);
  // Apart from the page's own image: there a choice made meanwhile would break the decoding off.
  const decoded = new Image();
  decoded.src = picture;
  await decoded.decode();
  if (shown?.id !== one.id) return;
  $("picture").src = picture;
  $("frame").style.setProperty("--ratio", decoded.naturalWidth / decoded.naturalHeight);
  $("picture").alt = one.name;
  $("map").src = map;
  const [left, top, width, height] = one.map_area.map((share) => `${100 * share}%`);
  Object.assign($("map").style, { left, top, width, height });
  $("empty").hidden = true;
  $("stage").hidden = $("tools").hidden = false;
}

function showVerdict(one) {
  const [word, meaning] = BANDS[one.band] ?? ["NO VERDICT", "This detector is not calibrated: it gives scores alone."];
  $("verdict").className = one.band ?? "";
  $("name").textContent = one.name;
  $("band").textContent = word;
  $("meaning").textContent = meaning;
  showMeter(one);
  const facts = [["Score", number(one.score)]];
  if (one.threshold !== null) {
    facts.push(["Rejected above", number(one.threshold)], ["Review above", number(one.review_threshold)]);
    const share = 100 * one.false_reject_probability;
    facts.push(["Good parts this unusual", `at most ${Number(share.toPrecision(2))} %`]);
  }
  facts.push(["Model", one.model_version], ["Seen", new Date(one.received).toLocaleString()]);
  $("figures").replaceChildren(...facts.flatMap(([term, value]) => {
    const name = document.createElement("dt");
    const content = document.createElement("dd");
    name.textContent = term;
    content.textContent = value;
    return [name, content];
  }));
  $("review").hidden = false;
  $("good").setAttribute("aria-pressed", String(one.review === "good"));
  $("bad").setAttribute("aria-pressed", String(one.review === "bad"));
  $("reviewed").textContent = one.review ? `Noted in the review table: ${VERDICTS[one.review]}.` : "";
}

function showMeter(one) {
  const typical = category()?.nominal_score ?? null;
  $("meter").hidden = one.threshold === null || typical === null;
  if ($("meter").hidden) return;
  const unit = Math.max(one.threshold - typical, 1e-9);
  const low = typical - 0.5 * unit;
  const place = (value) => 100 * Math.min(1, Math.max(0, (value - low) / (3 * unit)));
  const [review, reject] = [place(one.review_threshold), place(one.threshold)];
  $("zone-accept").style.width = `${review}%`;
  $("zone-review").style.width = `${reject - review}%`;
  $("needle").style.left = `${Math.min(99.3, Math.max(0.7, place(one.score)))}%`;
  $("tick-review").style.left = `${review}%`;
  $("tick-reject").style.left = `${reject}%`;
  $("tick-review").textContent = "review";
  $("tick-reject").textContent = "reject";
}

async function send(files) {
  const chosen = [...files];
  if (!chosen.length || !category()) return;
  const path = `/api/categories/${encodeURIComponent($("category").value)}/predict`;
  let last = null;
  const refused = [];
  for (const [done, file] of chosen.entries()) {
    say(`Inspecting ${done + 1} of ${chosen.length} …`);
    const form = new FormData();
    form.append("images", file, file.name);
    try {
      const told = await (await call(path, { method: "POST", body: form })).json();
      last = told.results[0];
      await show(last);
    } catch (problem) {
      refused.push(problem.message);
    }
  }
  await loadRecent();
  if (last) await show(last);
  say(refused.join(" · "), refused.length > 0);
}

async function review(verdict) {
  if (!shown) return;
  const who = $("who").value.trim();
  if (!who) {
    say("Enter your name first: verdicts are kept with it.", true);
    $("who").focus();
    return;
  }
  const told = await (await call(`/api/images/${shown.id}/review`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ verdict, who }),
  })).json();
  if (shown.id === told.id) {
    shown = told;
    showVerdict(told);
  }
  say("");
  await loadRecent();
}

function setOpacity(value) {
  $("opacity").value = value;
  $("opacity-value").textContent = `${value} %`;
  $("map").style.opacity = value / 100;
}

function move(step) {
  if (!recent.length) return;
  const place = recent.findIndex((one) => one.id === shown?.id);
  const next = place < 0 ? 0 : Math.min(recent.length - 1, Math.max(0, place + step));
  attempt(() => show(recent[next]));
}

const KEYS = {
  o: () => $("files").click(),
  g: () => attempt(() => review("good")),
  b: () => attempt(() => review("bad")),
  h: () => {
    if (Number($("opacity").value) > 0) [opacity] = [Number($("opacity").value), setOpacity(0)];
    else setOpacity(opacity);
  },
  arrowleft: () => move(-1),
  arrowright: () => move(1),
};

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[key]) return;
  event.preventDefault();
  KEYS[key]();
});
$("pick").addEventListener("click", KEYS.o);
$("good").addEventListener("click", KEYS.g);
$("bad").addEventListener("click", KEYS.b);
$("opacity").addEventListener("input", (event) => setOpacity(event.target.value));
$("files").addEventListener("change", async (event) => {
  await attempt(() => send(event.target.files));
  event.target.value = "";
});
$("category").addEventListener("change", () => attempt(async () => {
  localStorage.setItem("category", $("category").value);
  await loadCategories();
  await loadRecent();
  if (recent.length) await show(recent[0]);
}));
$("who").value = localStorage.getItem("who") ?? "";
$("who").addEventListener("change", () => localStorage.setItem("who", $("who").value.trim()));
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  attempt(() => send(event.dataTransfer.files));
});

setOpacity(opacity);
await attempt(async () => {
  await loadCategories();
  await loadRecent();
  if (recent.length) await show(recent[0]);
});
let silent = false;
setInterval(async () => {
  if (document.hidden || asking) return;
  try {
    await loadCategories();
    await loadRecent();
    if (silent) say("");
    silent = false;
  } catch (problem) {
    silent = true;
    say(problem.message, true);
  }
}, REFRESH_MS);
