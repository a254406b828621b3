// What the console does besides being read: `/` goes to the search field, live pages follow by themselves, charts are
// drawn by uPlot, and statements in SQL are remembered. Without JavaScript all pages are there, charts as still pictures.
"use strict";

(() => {
  const search = document.getElementById("search");

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  });

  // A colour as it comes out in the theme that is shown: uPlot draws on a canvas, which knows no variables.
  const colour = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const shown = getComputedStyle(probe).color;
    probe.remove();
    return shown;
  };

  // Draws a figure's `data-chart`; the answer takes new data, and draws anew when what is shown has changed.
  const chart = (figure) => {
    const place = document.createElement("div");
    place.className = "plot";
    let plot = null;
    let shown = "";

    const read = () => JSON.parse(figure.dataset.chart);
    const data = (told) => [told.times, ...told.lines.map((line) => line.values)];
    const size = () => ({ width: place.clientWidth, height: place.clientWidth < 600 ? 190 : 250 });

    const draw = () => {
      const told = read();
      plot?.destroy();
      plot = null;
      shown = told.lines.map((line) => line.name).join("\n");
      const silent = told.lines.length === 0;
      place.hidden = silent;
      for (const still of figure.querySelectorAll(".lines, figcaption")) still.hidden = !silent;
      for (const still of figure.querySelectorAll(".lines")) still.style.display = silent ? "" : "none";
      if (silent) return;
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
      const lines = told.lines.map((line, index) => ({
        label: line.name,
        stroke: colour(`--c${index + 1}`),
        width: 2,
        points: { show: false },
        value: (_, value) => (value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: 1 })),
      }));
      // Over more than a day, the day says more than the time of day. Some orders are no times at all.
      const long = told.times.length > 0 && told.times[told.times.length - 1] - told.times[0] > 86400;
      const day = (time) => new Date(time * 1000).toISOString().slice(0, 10);
      const clock = (_, times) => times.map((time) => (long ? day(time) : new Date(time * 1000).toTimeString().slice(0, 5)));
      const exact = (time) => `${long ? `${day(time)} ` : ""}${new Date(time * 1000).toTimeString().slice(0, 8)}`;
      const first = told.plain
        ? { label: told.label, value: (_, x) => (x == null ? "–" : x.toLocaleString("en")) }
        : { label: told.label ?? "Time", value: (_, time) => (time == null ? "–" : exact(time)) };
      const across = told.plain ? axis : { ...axis, values: clock };
      plot = new uPlot({
        ...size(),
        series: [first, ...lines],
        axes: [across, { ...axis, size: 56 }],
        scales: { x: { time: !told.plain }, y: { range: (_, min, max) => [Math.min(0, min), Math.max(1, max * 1.08)] } },
        cursor: { points: { size: 7 } },
        legend: { markers: { width: 0, fill: (_, index) => (index ? lines[index - 1].stroke : "transparent") } },
      }, data(told), place);
    };

    const renew = (next) => {
      figure.dataset.chart = next;
      const told = read();
      const same = plot && told.lines.map((line) => line.name).join("\n") === shown;
      if (same) plot.setData(data(told)); else draw();
    };

    figure.prepend(place);
    draw();
    new ResizeObserver(() => plot?.setSize(size())).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    return renew;
  };

  const charts = new Map();
  for (const figure of document.querySelectorAll("figure[data-chart]")) charts.set(figure, chart(figure));

  // SQL: Ctrl and Enter run the statement, and what was run is kept in this browser alone.
  const form = document.querySelector("form[data-sql]");
  if (form) {
    const KEY = "isthmus.sql";
    const KEPT = 50;
    const field = form.querySelector("textarea");
    const read = () => {
      try {
        const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
        return Array.isArray(kept) ? kept.filter((one) => typeof one === "string") : [];
      } catch {
        return [];
      }
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", () => {
      const statement = field.value.trim();
      const kept = [statement, ...read().filter((one) => one !== statement)].slice(0, KEPT);
      try {
        localStorage.setItem(KEY, JSON.stringify(kept));
      } catch {
        // There is no room, or it is not allowed: nothing is kept then.
      }
    });
    const earlier = document.querySelector("[data-earlier]");
    const kept = read();
    earlier.hidden = kept.length === 0;
    for (const statement of kept) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = statement;
      button.addEventListener("click", () => {
        field.value = statement;
        field.focus();
      });
      const item = document.createElement("li");
      item.append(button);
      earlier.querySelector("ul").append(item);
    }
  }

  // Live pages: this page is asked for anew, and what differs in it is put in the place of what is shown.
  const main = document.getElementById("main");
  const every = Number(main.dataset.live);
  const status = document.querySelector("[data-live-status]");
  const say = (state, text) => {
    if (status.dataset.liveStatus === state) return;
    status.dataset.liveStatus = state;
    status.textContent = text;
  };

  const renew = async () => {
    const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = next.querySelector(`[data-part="${part.dataset.part}"]`);
      if (!other || other.outerHTML === part.outerHTML) continue;
      // Whoever is on a link by keyboard, or has marked some text, stays there.
      const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const selection = getSelection();
      if (!selection.isCollapsed && part.contains(selection.anchorNode)) continue;
      const [left, scrolled] = [part.querySelector(".scroll")?.scrollLeft ?? 0, document.adoptNode(other)];
      part.replaceWith(scrolled);
      const scroll = scrolled.querySelector(".scroll");
      if (scroll) scroll.scrollLeft = left;
      if (focused) scrolled.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
    for (const [figure, put] of charts) {
      const other = next.querySelector("figure[data-chart]");
      if (other && other.dataset.chart !== figure.dataset.chart) put(other.dataset.chart);
    }
  };

  const follow = async () => {
    if (!document.hidden) {
      try {
        await renew();
        say("live", "Live");
      } catch {
        say("lost", "This node does not answer; trying again");
      }
    }
    setTimeout(follow, every);
  };

  if (every > 0) {
    say("live", "Live");
    setTimeout(follow, every);
  }
})();
