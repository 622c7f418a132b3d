"use strict";
// Texts of the cluster reach the page as text nodes only: no innerHTML, no eval.
(() => {
  const SAMPLE_MS = 2000, SLOWEST_MS = 30000, STALE_MS = 10000, KEPT = 150, SHOWN = 6;
  const $ = (id) => document.getElementById(id);
  const seg = (text) => encodeURIComponent(text);

  const make = (name, attributes = {}, ...children) => {
    const svg = ["svg", "polyline", "line", "text", "title"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  const bytes = (amount) => {
    if (amount === null || amount === undefined) return "not known";
    let unit = 0;
    while (amount >= 1024 && unit < 5) { amount /= 1024; unit += 1; }
    return `${unit === 0 ? amount : amount.toFixed(1).replace(/\.0$/, "")} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
  };

  const clock = (time) => {
    const at = new Date(time);
    return Number.isNaN(at.getTime()) ? String(time) : `${at.toISOString().slice(11, 19)} UTC`;
  };

  // The lag of each replica, sampled while the page is seen.
  function watchLag(root) {
    const address = `/namespaces/${seg(root.dataset.namespace)}/clusters/${seg(root.dataset.name)}`;
    const series = new Map();
    let wait = SAMPLE_MS, timer = 0, seen = 0, asking = false;

    const later = () => { clearTimeout(timer); if (!document.hidden) timer = setTimeout(look, wait); };

    async function look() {
      if (asking) return;
      asking = true;
      try {
        const response = await fetch(address, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(15000) });
        if (!response.ok) throw new Error(`status ${response.status}`);
        take(await response.json());
        wait = SAMPLE_MS;
        seen = Date.now();
      } catch (error) {
        wait = Math.min(wait * 2, SLOWEST_MS);
        $("freshness").textContent = `Stale: the last look failed (${error.message}). Trying again.`;
      }
      asking = false;
      later();
    }

    function take(status) {
      const now = Date.now();
      for (const member of status.members) {
        const row = [...document.querySelectorAll("[data-member]")].find((it) => it.dataset.member === member.name);
        const leads = member.name === status.leader;
        if (row) {
          row.querySelector("[data-cell=lag]").textContent = leads ? "leads" : bytes(member.lagBytes);
          row.querySelector("[data-cell=role]").textContent = member.role;
        }
        if (leads || member.lagBytes === null) continue;
        if (!series.has(member.name)) series.set(member.name, []);
        const points = series.get(member.name);
        points.push([now, member.lagBytes]);
        if (points.length > KEPT) points.shift();
      }
      $("as-of").textContent = clock(status.time);
      const before = document.querySelectorAll("[data-member]").length;
      $("freshness").textContent = status.members.length === before ? "Lag and roles are live." : "The members have changed: reload the page.";
      draw(now);
    }

    function draw(now) {
      const all = [...series].sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
      if (all.length === 0) return;
      $("lag").hidden = false;
      // One unit is one pixel on a narrow screen, so that the texts keep their size.
      const width = Math.max(280, Math.min(640, $("chart").clientWidth));
      const [height, left, bottom] = [200, 76, 24];
      const start = Math.min(...all.map(([, points]) => points[0][0]), now - 30000);
      const most = Math.max(1024, ...all.flatMap(([, points]) => points.map((it) => it[1])));
      const x = (time) => left + (width - left - 8) * (time - start) / (now - start);
      const y = (lag) => height - bottom - (height - bottom - 16) * lag / most;
      const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, make("title", {}, "Lag of each replica in bytes; the table below has the same"));
      for (const lag of [0, most / 2, most]) {
        svg.append(make("line", { class: "axis", x1: left, x2: width - 8, y1: y(lag), y2: y(lag) }));
        svg.append(make("text", { x: left - 6, y: y(lag) + 4, "text-anchor": "end" }, bytes(Math.round(lag))));
      }
      svg.append(make("text", { x: left, y: height - 6 }, `${Math.round((now - start) / 1000)} s ago`));
      svg.append(make("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, "now"));
      const legend = [], rows = [];
      all.forEach(([name, points], index) => {
        const style = `line c${index % SHOWN}`;
        const last = points[points.length - 1], first = points[0];
        svg.append(make("polyline", { class: style, "data-points": points.length, points: points.map((it) => `${x(it[0]).toFixed(1)},${y(it[1]).toFixed(1)}`).join(" ") }));
        const mark = make("svg", { viewBox: "0 0 32 12", "aria-hidden": "true" }, make("line", { class: style, x1: 0, x2: 32, y1: 6, y2: 6 }));
        legend.push(make("li", {}, mark, `${name}: ${bytes(last[1])}`));
        const lags = points.map((it) => it[1]);
        const seconds = (last[0] - first[0]) / 1000;
        const pace = seconds > 0 ? (last[1] - first[1]) / seconds : 0;
        const change = `${pace < 0 ? "−" : "+"}${bytes(Math.round(Math.abs(pace)))}/s`;
        const cell = (text) => make("td", { class: "number" }, text);
        rows.push(make("tr", {}, make("th", { scope: "row" }, name), cell(bytes(last[1])), cell(bytes(Math.min(...lags))), cell(bytes(Math.max(...lags))), cell(change)));
      });
      $("chart").replaceChildren(svg);
      $("legend").replaceChildren(...legend);
      $("lag-table").replaceChildren(...rows);
    }

    document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else look(); });
    setInterval(() => {
      if (!document.hidden && seen > 0 && Date.now() - seen > STALE_MS) $("freshness").textContent = `Stale: nothing new for ${Math.round((Date.now() - seen) / 1000)} s.`;
    }, 1000);
    if (!document.hidden) look();
  }

  // Sends the plan by its hash.
  function offerScale(form) {
    const button = $("send"), typed = $("confirm"), answer = $("answer");
    const { namespace, name, to, hash } = form.dataset;
    let sent = false;
    const ready = () => { button.disabled = sent || (typed !== null && typed.value !== typed.dataset.confirm); };
    typed?.addEventListener("input", ready);
    $("by-hand").textContent = "The same as a command:";
    ready();

    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (button.disabled) return;
      sent = true;
      ready();
      answer.replaceChildren("Sent. Waiting for the answer.");
      const body = { replicas: Number(to), expectPlan: hash };
      if ($("reason").value) body.reason = $("reason").value;
      if (typed !== null) body.confirm = typed.value;
      let response, said;
      try {
        response = await fetch(`/namespaces/${seg(namespace)}/clusters/${seg(name)}/scale`, {
          method: "PATCH", headers: { "Content-Type": "application/json", Accept: "application/json" }, body: JSON.stringify(body),
        });
        said = await response.json();
      } catch (error) {
        // It may have begun: the answer was lost, not the question. A second press must not follow blindly.
        refuse("No answer", `It is not known whether it has begun (${error.message}). Look at the cluster before you send it again.`);
        return;
      }
      if (response.ok && said.operation) {
        location.assign(`/operation/${seg(said.operation.id)}`);
        return;
      }
      if (response.ok) { answer.replaceChildren(said.message ?? "Done."); return; }
      sent = response.status === 409;
      refuse(said.title ?? `Status ${response.status}`, said.message, said);
      ready();
    });

    function refuse(title, message, said = {}) {
      const note = make("div", { class: "note bad" }, make("h2", {}, title), make("p", {}, message ?? ""));
      const list = make("ul");
      for (const cause of said.causes ?? []) list.append(make("li", {}, make("code", {}, cause.rule ?? ""), ` ${cause.message ?? ""}`));
      for (const hint of said.hints ?? []) list.append(make("li", {}, String(hint)));
      if (list.children.length > 0) note.append(list);
      if (said.operation?.id) note.append(make("p", {}, make("a", { href: `/operation/${seg(said.operation.id)}` }, "See the change that runs")));
      else note.append(make("p", {}, make("a", { href: location.href }, "Make the plan again")));
      answer.replaceChildren(note);
    }
  }

  // Adds lines as they come. The server may repeat some after a lost connection.
  function follow(list) {
    let last = Number(list.dataset.seq);
    const source = new EventSource(list.dataset.events);
    const progress = $("progress");
    const say = (kind, word, text) => progress.replaceChildren(make("span", { class: `badge ${kind}` }, word), ` ${text}`);

    const add = (event) => {
      let line;
      try { line = JSON.parse(event.data); } catch { return; }
      say("warn", "Runs", "It goes on when you close this page.");
      if (line.seq <= last && list.children.length > 0) return;
      last = line.seq;
      $("empty")?.remove();
      list.append(make("li", { "data-seq": line.seq }, make("time", { datetime: line.at }, clock(line.at)), " ", make("span", {}, line.text)));
    };
    source.addEventListener("progress", add);
    source.addEventListener("end", (event) => {
      source.close();
      let ended;
      try { ended = JSON.parse(event.data); } catch { say("unknown", "Ended", "Reload the page to see how."); return; }
      const well = ended.message === undefined;
      say(well ? "good" : "bad", ended.result, well ? "It has ended." : ended.message);
      const hints = (ended.hints ?? []).map((hint) => make("li", {}, make("code", {}, hint)));
      $("hints").hidden = hints.length === 0;
      $("hints").replaceChildren(...hints);
    });
    source.addEventListener("error", () => {
      const closed = source.readyState === EventSource.CLOSED;
      say("bad", "Stale", closed ? "The connection is lost. Reload the page." : "The connection is lost. Trying again.");
    });
  }

  if ($("cluster")) watchLag($("cluster"));
  if ($("scale")) offerScale($("scale"));
  if ($("timeline")?.dataset.events) follow($("timeline"));
})();
