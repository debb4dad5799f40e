// A chat with the endpoint that serves this page. Conversations stay in this browser's own storage.

const $ = (selector, within = document) => within.querySelector(selector);
const STORED = "aero.conversations";

let model = null;
let asking = null; // the AbortController of the answer that is being written
let conversations = read();
let current = conversations[0];

function read() {
  try {
    const found = JSON.parse(localStorage.getItem(STORED));
    if (Array.isArray(found) && found.length) return found;
  } catch { /* what is not ours begins anew */ }
  return [fresh()];
}

function fresh() {
  return { id: crypto.randomUUID?.() ?? String(Math.random()), messages: [] };
}

function keep() {
  try {
    localStorage.setItem(STORED, JSON.stringify(conversations));
  } catch { /* the storage is full or refused: this conversation lives as long as the page */ }
}

function headers() {
  const key = $("#api-key").value;
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

async function get(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw new Error((await response.json()).error.message);
  return response.json();
}

async function connect() {
  try {
    const card = (await get("v1/models")).data[0];
    const about = card.x_aero;
    model = card.id;
    const name = model === about.notation ? model : `${model}: ${about.notation}`;
    $("#model").textContent = `${name}, ${about.context} tokens of context, private by ${about.engine}`;
    if (about.reveal === "token") $("#temperature").disabled = true;
  } catch (error) {
    model = null;
    $("#model").textContent = error.message;
  }
}

// Asking

async function ask() {
  const answer = { role: "assistant", content: "", cost: [], problem: null };
  const spoken = current.messages.filter((one) => !one.problem || one.content);
  current.messages.push(answer);
  const shown = show(answer);
  asking = new AbortController();
  busy(true);
  try {
    if (!model) await connect();
    const response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: headers(),
      signal: asking.signal,
      body: JSON.stringify({
        model,
        messages: spoken.map(({ role, content }) => ({ role, content })),
        max_tokens: Number($("#max-tokens").value) || 32,
        temperature: Number($("#temperature").value) || 0,
        stream: true,
      }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const piece of events(response.body)) {
      if (piece.error) throw new Error(piece.error.message);
      answer.content += piece.choices[0]?.delta.content ?? "";
      if (piece.x_aero) answer.cost.push(piece.x_aero);
      update(shown, answer);
    }
    answer.seen = await seen(answer.cost);
  } catch (error) {
    if (error.name !== "AbortError") answer.problem = error.message;
  } finally {
    asking = null;
    busy(false);
    keep();
    update(shown, answer);
  }
}

// The server-sent events of a response, each as JSON.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const parts = buffer.split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

// What the server received in these runs, as the endpoint has counted it.
async function seen(cost) {
  const runs = new Set(cost.map((one) => one.run));
  return (await get("v1/x_aero/runs")).runs.filter((one) => runs.has(one.run));
}

// Showing

function show(message) {
  const answer = message.role === "assistant";
  const shown = $(answer ? "#answer" : "#message").content.cloneNode(true).firstElementChild;
  if (!answer) $(".who", shown).textContent = "You";
  else $(".again", shown).addEventListener("click", () => again(message));
  $("#messages").append(shown);
  update(shown, message);
  return shown;
}

function update(shown, message) {
  $(".said", shown).textContent = message.content;
  if (message.role === "assistant") {
    const problem = $(".problem", shown);
    problem.hidden = !message.problem;
    problem.textContent = message.problem ?? "";
    bars($(".bars", shown), message.cost);
    $(".sum", shown).textContent = message.cost.length ? summary(message.cost) : asking ? "reading privately …" : "";
    $(".drawer", shown).hidden = !message.seen?.length;
    if (message.seen?.length) drawer(shown, message);
    $(".again", shown).hidden = Boolean(asking) || message !== current.messages.at(-1);
  }
  $("#welcome").hidden = current.messages.length > 0;
  const main = $("main");
  main.scrollTop = main.scrollHeight;
}

function bars(svg, cost) {
  const all = distinct(cost);
  const width = 160 / Math.max(all.length, 16);
  const most = Math.max(...all.map((one) => one.seconds), 1e-9);
  const rects = all.map((one, i) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = Math.max(1, (26 * one.seconds) / most);
    for (const [name, value] of Object.entries({ x: i * width, y: 28 - height, width: width * 0.8, height })) {
      rect.setAttribute(name, value);
    }
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `run ${i + 1}: ${summary(cost.filter((other) => other.run === one.run))}`;
    rect.append(title);
    return rect;
  });
  svg.replaceChildren($("title", svg), ...rects);
}

// The runs of an answer's tokens, each once: where guesses hold, a run gives several.
const distinct = (cost) => [...new Map(cost.map((one) => [one.run, one])).values()];
const sum = (cost, name) => cost.reduce((all, one) => all + (one[name] ?? 0), 0);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;

function summary(cost) {
  const all = distinct(cost);
  const bytes = sum(all, "bytes_client_to_server") + sum(all, "bytes_server_to_client");
  const guesses = sum(all, "guesses");
  const held = guesses ? `  ${sum(all, "guesses_held")} of ${guesses} guesses held` : "";
  return `${cost.length} tokens  ${sum(all, "seconds").toFixed(2)} s  ${megabytes(bytes)}  ${sum(all, "rounds")} rounds${held}`;
}

function drawer(shown, message) {
  const before = current.messages[current.messages.indexOf(message) - 1];
  entries($(".mine", shown), [
    ["what you wrote", before?.content ?? ""],
    ["what you learnt", message.content],
  ]);
  const runs = message.seen;
  const excerpts = runs.flatMap((run) => run.sent).sort((a, b) => b.bytes - a.bytes).slice(0, 4);
  entries($(".theirs", shown), [
    ["lengths", lengths(runs)],
    ["received", `${megabytes(sum(runs, "bytes_client_to_server"))} in ${sum(runs, "rounds")} rounds`],
    ["sent", megabytes(sum(runs, "bytes_server_to_client"))],
    ...excerpts.map((one) => [`of ${one.bytes} bytes for ${one.of}, the first`, one.hex, "code"]),
  ]);
}

// Tokens that were read, and after how many; an answer's own, one by one, are only counted.
function lengths(runs) {
  const more = runs.slice(1);
  const shown = more.length && more.every((run) => String(run.tokens_read) === "1") ? runs.slice(0, 1) : runs;
  const listed = shown.map((run) => `${run.tokens_read} read after ${run.past}`).join(", ");
  return shown === runs ? listed : `${listed}, then one more ${more.length} times`;
}

function entries(list, rows) {
  list.replaceChildren(...rows.flatMap(([name, value, kind]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = name;
    const holder = kind ? dd.appendChild(document.createElement(kind)) : dd;
    holder.textContent = value;
    return [dt, dd];
  }));
}

function showAll() {
  $("#messages").replaceChildren();
  current.messages.forEach(show);
  $("#welcome").hidden = current.messages.length > 0;
  $("#conversations").replaceChildren(...conversations.map((one) => {
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    button.type = "button";
    button.textContent = one.messages[0]?.content ?? "New chat";
    button.setAttribute("aria-current", String(one === current));
    button.addEventListener("click", () => { stop(); current = one; showAll(); });
    item.append(button);
    return item;
  }));
}

function busy(is) {
  $("#send").hidden = is;
  $("#stop").hidden = !is;
}

function stop() {
  asking?.abort();
}

function again(message) {
  if (asking) return;
  current.messages.splice(current.messages.indexOf(message));
  showAll();
  ask();
}

$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("#text").value.trim();
  if (!text || asking) return;
  $("#text").value = "";
  current.messages.push({ role: "user", content: text });
  keep();
  showAll();
  ask();
});
$("#text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("#ask").requestSubmit();
  }
});
$("#stop").addEventListener("click", stop);
$("#new").addEventListener("click", () => {
  stop();
  conversations = [fresh(), ...conversations.filter((one) => one.messages.length)];
  current = conversations[0];
  showAll();
  $("#text").focus();
});
$("#api-key").addEventListener("change", connect);

showAll();
connect();
