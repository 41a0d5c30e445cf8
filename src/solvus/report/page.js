"use strict";
(() => {
  const groups = JSON.parse(document.getElementById("figures").textContent);
  const state = { group: 0, view: 0, work: "seconds", hidden: new Set() };
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const GLYPH = { circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", "triangle-down": "▼", cross: "✚",
    star: "★", hexagon: "⬢", pentagon: "⬟", x: "✖", "circle-open": "○", "square-open": "□", "diamond-open": "◇",
    "triangle-up-open": "△", "triangle-down-open": "▽", "star-open": "☆", "hexagon-open": "⬡", "pentagon-open": "⬠" };

  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colourOf = (() => {
    const probe = document.createElement("span");
    probe.hidden = true;
    document.body.append(probe);
    return (name) => { probe.className = name; return getComputedStyle(probe).getPropertyValue("--c").trim(); };
  })();
  const narrow = () => innerWidth < 620;

  /* Seconds are labelled 10 µs, 1 ms, 1 s, 1 min: whole decades only. */
  function secondTicks(values) {
    if (!values.length) return {};
    const low = Math.floor(Math.log10(Math.min(...values))), high = Math.ceil(Math.log10(Math.max(...values)));
    const tickvals = [], ticktext = [];
    for (let e = low; e <= high; e += 1) {
      const v = 10 ** e;
      tickvals.push(v);
      ticktext.push(e < -3 ? `${10 ** (e + 6)} µs` : e < 0 ? `${10 ** (e + 3)} ms` : `${v.toLocaleString("en")} s`);
    }
    return { tickvals, ticktext };
  }

  function linear(title) {
    return { type: "linear", title: { text: title, font: { size: 12.5, color: css("--soft") }, standoff: 8 }, rangemode: "tozero",
      gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true, tickfont: { size: 11.5, color: css("--soft") } };
  }

  function axis(title, values) {
    if (title === "regret" || title.startsWith("percent")) return linear(title);
    const base = { type: "log", title: { text: title, font: { size: 12.5, color: css("--soft") }, standoff: 8 },
      gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true,
      tickfont: { size: 11.5, color: css("--soft") }, minor: { showgrid: false } };
    if (title.startsWith("seconds")) return { ...base, ...secondTicks(values) };
    if (title === "unknowns") return { ...base, dtick: 1, tickformat: "~s" };
    if (title === "steps") return { ...base, dtick: "D2", tickformat: "~s" };
    return { ...base, exponentformat: "power", nticks: narrow() ? 5 : 8 };
  }

  function styled(trace, crowded) {
    if (trace.front) return { ...trace, showlegend: false, line: { ...trace.line, color: css("--soft"), width: 1.2, dash: "solid" }, opacity: .55 };
    if (trace.guide) return { ...trace, showlegend: false, line: { color: css("--soft"), width: 1.3, dash: "dot" } };
    const colour = colourOf(trace.class);
    const marker = { size: trace.failed ? 9 : trace.ours ? 9 : 8, ...trace.marker, color: colour,
      line: { color: trace.failed ? colour : css("--panel"), width: trace.failed ? 2 : .8 } };
    return { ...trace, marker, line: { ...trace.line, color: colour, width: trace.ours && !crowded ? 2.4 : 1.6 },
      opacity: trace.failed ? .5 : .95, hovertemplate: "%{text}<extra></extra>",
      hoverlabel: { bgcolor: css("--panel"), bordercolor: colour, font: { color: css("--ink"), size: 12.5 }, align: "left" } };
  }

  /* Names at the right-hand ends of the curves, moved apart where they would overlap. */
  function endLabels(traces, range, height, log) {
    const place = (y) => (log ? Math.log10(y) : y);
    const ends = traces.filter((t) => t.key && !t.failed).map((t) => ({ trace: t, y: place(t.y.at(-1)), x: t.x.at(-1) }));
    const last = Math.max(...ends.map((e) => e.x));
    const labels = ends.filter((e) => e.x === last).sort((a, b) => a.y - b.y);
    const gap = (range[1] - range[0]) * 14 / height;
    if (labels.length * gap > range[1] - range[0]) return [];
    labels.forEach((e, i) => { e.at = i ? Math.max(e.y, labels[i - 1].at + gap) : Math.max(e.y, range[0]); });
    for (let i = labels.length - 1, top = range[1]; i >= 0; i -= 1) {
      labels[i].at = Math.min(labels[i].at, top);
      top = labels[i].at - gap;
    }
    return labels.map((e) => ({ text: e.trace.name, xref: "paper", x: 1, xanchor: "left", xshift: 6, y: e.at, yanchor: "middle",
      showarrow: false, font: { size: 11.5, color: colourOf(e.trace.class) } }));
  }

  function draw(id, figure) {
    const shown = figure.traces.filter((t) => !state.hidden.has(t.key));
    const values = (side) => shown.filter((t) => t.key).flatMap((t) => t[side]);
    const log = id !== "plot-regret";
    const wide = ["plot-growth", "plot-regret"].includes(id) && !narrow() && values("y").length;
    const top = wide ? Math.max(...values("y")) : 0;
    const range = !wide ? null : log ? [Math.log10(Math.min(...values("y"))) - .2, Math.log10(top) + .1] : [Math.min(0, ...values("y")), 1.05 * top];
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      font: { family: css("--sans"), color: css("--ink") }, margin: { l: 8, r: 14, t: narrow() ? 8 : 30, b: 8 },
      xaxis: axis(figure.x_title, values("x")), yaxis: axis(figure.y_title, values("y")), dragmode: narrow() ? false : "zoom",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent") },
    };
    if (wide) {
      layout.yaxis.range = range;
      layout.annotations = endLabels(shown, range, byId(id).clientHeight - 80, log);
      layout.margin.r = 20 + 6.6 * Math.max(0, ...layout.annotations.map((a) => a.text.length));
    }
    if (figure.x_title.startsWith("tolerance") || figure.x_title.endsWith("reached")) layout.xaxis.autorange = "reversed";
    const config = { responsive: true, displaylogo: false, plotlyServerURL: "",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      displayModeBar: narrow() ? false : "hover", toImageButtonOptions: { format: "svg", filename: id } };
    return Plotly.react(byId(id), shown.map((t) => styled(t, shown.length > 24)), layout, config);
  }

  function render() {
    const group = groups[state.group], view = group.views[state.view];
    const work = view.work[state.work];
    byId("machine").textContent = group.machine;
    byId("figure-work").hidden = !view.several || !work.traces.length;
    byId("figure-speed").classList.toggle("alone", byId("figure-work").hidden);
    const grows = group.growth.traces.some((t) => t.guide);
    byId("figure-growth").hidden = !grows;
    byId("figure-regret").hidden = !view.regret.traces.length;
    const plots = [draw("plot-speed", view.speed)];
    if (!byId("figure-work").hidden) plots.push(draw("plot-work", work));
    if (grows) plots.push(draw("plot-growth", group.growth));
    if (view.regret.traces.length) plots.push(draw("plot-regret", view.regret));
    Promise.all(plots).then(() => { root.dataset.rendered = plots.length; });
  }

  function chip(method) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = method.class;
    button.title = `${method.method} (${method.package}): select to hide or show, twice to see it alone`;
    const mark = document.createElement("i"), name = document.createElement("span"), small = document.createElement("small");
    mark.textContent = GLYPH[method.symbol] || GLYPH[method.symbol.replace("-open", "")];
    name.textContent = method.method;
    small.textContent = method.package === "solvus" ? "" : method.package;
    button.append(mark, name, small);
    button.setAttribute("aria-pressed", String(!state.hidden.has(method.key)));
    button.addEventListener("click", () => {
      if (!state.hidden.delete(method.key)) state.hidden.add(method.key);
      refresh();
    });
    button.addEventListener("dblclick", () => {
      state.hidden = new Set(groups[state.group].methods.map((m) => m.key).filter((k) => k !== method.key));
      refresh();
    });
    return button;
  }

  function refresh() {
    const all = document.createElement("button");
    all.type = "button";
    all.className = "all";
    all.textContent = state.hidden.size ? "show all" : "hide all";
    all.addEventListener("click", () => {
      state.hidden = state.hidden.size ? new Set() : new Set(groups[state.group].methods.map((m) => m.key));
      refresh();
    });
    byId("chips").replaceChildren(...groups[state.group].methods.map(chip), all);
    render();
  }

  function open(index) {
    state.group = index;
    state.view = 0;
    const select = byId("view");
    select.replaceChildren(...groups[index].views.map((view, i) => new Option(view.label, i)));
    document.querySelectorAll("[role=tab]").forEach((tab) => tab.setAttribute("aria-selected", String(Number(tab.dataset.group) === index)));
    document.querySelectorAll(".panel").forEach((panel) => { panel.hidden = Number(panel.dataset.group) !== index; });
    refresh();
  }

  function sort(head) {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const number = [...body.rows].some((row) => row.cells[column].dataset.v !== undefined);
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");  /* empty cells last, both ways */
      const order = number ? Number(x) - Number(y) : x.localeCompare(y);
      return up ? order : -order;
    });
    body.append(...rows);
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }

  document.querySelectorAll("[role=tab]").forEach((tab) => tab.addEventListener("click", () => open(Number(tab.dataset.group))));
  document.querySelectorAll("[data-open]").forEach((link) => link.addEventListener("click", () => open(Number(link.dataset.open))));
  document.querySelectorAll("table.sortable th").forEach((head) => head.addEventListener("click", () => sort(head)));
  byId("view").addEventListener("change", (event) => { state.view = Number(event.target.value); render(); });
  byId("work").addEventListener("change", (event) => { state.work = event.target.value; render(); });
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    render();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
  byId("download").addEventListener("click", () => {
    const lines = JSON.parse(byId("records").textContent).map((record) => JSON.stringify(record)).join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines + "\n"], { type: "application/x-ndjson" }));
    link.download = "records.jsonl";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  open(0);
})();
