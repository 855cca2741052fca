// Sorting, filtering, turning pages and vetting; no network, and nothing that another page could not do without.
"use strict";
(() => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const shelf = `twinlines vetting ${about.catalog}`;
  const body = document.querySelector("#stars tbody");
  const rows = body ? [...body.rows] : [];
  const pages = [...document.querySelectorAll("section.star")];
  const front = document.getElementById("front");
  let said = {};
  try { said = JSON.parse(localStorage.getItem(shelf)) || {}; } catch { /* a browser that keeps nothing for files */ }

  const keep = () => { try { localStorage.setItem(shelf, JSON.stringify(said)); } catch { /* as above */ } };
  const number = (row, name) => {
    const text = row.dataset[name];
    return text === undefined || text === "" ? NaN : Number(text);
  };

  function show() {
    for (const row of rows) {
      const verdict = (said[row.dataset.obsid] || {}).verdict || "";
      const cell = row.querySelector(".verdict");
      cell.textContent = verdict;
      cell.className = verdict ? `verdict ${verdict}-said` : "verdict";
    }
    for (const page of pages) {
      const mine = said[page.dataset.obsid] || {};
      for (const button of page.querySelectorAll("[data-verdict]")) {
        button.setAttribute("aria-pressed", String(button.dataset.verdict === mine.verdict));
      }
      page.querySelector("textarea").value = mine.comment || "";
    }
    const done = Object.values(said).filter((each) => each.verdict).length;
    for (const each of document.querySelectorAll(".vetted-count")) each.textContent = String(done);
  }

  function vet(page, verdict) {
    const mine = said[page.dataset.obsid] || {};
    mine.verdict = mine.verdict === verdict ? "" : verdict;
    said[page.dataset.obsid] = mine;
    keep();
    show();
  }

  // Terms such as  p>0.9  double>=2  period<10 ; anything else is looked for in the obsid.
  const names = { p: "p", sb2: "sb2", double: "double", epochs: "epochs", q: "q", period: "period", apart: "apart" };
  const meets = { ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b,
                  "=": (a, b) => a === b };
  function filter() {
    const box = document.getElementById("filter");
    let wrong = "";
    const tests = box.value.trim().split(/\s+/).filter(Boolean).map((term) => {
      const parts = term.match(/^([a-z0-9]+)(>=|<=|>|<|=)(-?[0-9.]+)$/i);
      if (parts && names[parts[1].toLowerCase()]) {
        const [name, test, limit] = [names[parts[1].toLowerCase()], meets[parts[2]], Number(parts[3])];
        return (row) => test(number(row, name), limit);
      }
      if (/^(accept|reject|unsure|new)$/.test(term)) {
        return (row) => ((said[row.dataset.obsid] || {}).verdict || "new") === term;
      }
      if (!/^[0-9]+$/.test(term)) wrong = term;
      return (row) => row.dataset.obsid.includes(term);
    });
    let shown = 0;
    for (const row of rows) {
      row.hidden = !tests.every((test) => test(row));
      shown += row.hidden ? 0 : 1;
    }
    const state = document.getElementById("shown");
    state.textContent = wrong ? `“${wrong}” is no condition: write p>0.9, double>=2, period<10, or an obsid`
                              : `${shown} of ${rows.length} stars`;
  }

  function sort(header) {
    const name = header.dataset.name;
    const up = header.getAttribute("aria-sort") === "descending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => number(row, name);
    rows.sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
      return up ? left - right : right - left;
    });
    body.append(...rows);
  }

  // At once: the browser tells of a new hash later, and a key that follows quickly must meet the new page.
  function go(hash) {
    location.hash = hash;
    open();
  }

  function open() {
    const wanted = pages.find((page) => `#${page.id}` === location.hash);
    if (wanted === current()) return;
    for (const page of pages) page.hidden = page !== wanted;
    front.hidden = Boolean(wanted);
    document.title = wanted ? `obsid ${wanted.dataset.obsid} – ${about.title}` : about.title;
    if (wanted) {
      wanted.querySelector("h2").focus();
      window.scrollTo(0, 0);
    }
  }

  const current = () => pages.find((page) => !page.hidden);
  function turn(step) {
    // In the order of the table as it is sorted and filtered now.
    const order = rows.filter((row) => !row.hidden).map((row) => document.getElementById(`star-${row.dataset.obsid}`));
    const there = order.filter(Boolean);
    const here = there.indexOf(current());
    const next = there[here < 0 ? 0 : here + step];
    if (next) go(next.id);
    else if (here >= 0) go("");
  }

  function save() {
    const quote = (text) => `"${String(text).replaceAll('"', '""')}"`;
    const lines = ["obsid,verdict,comment,catalog"];
    // In the order of the pages; then what was said of stars that an earlier report of this catalog had.
    for (const obsid of new Set([...pages.map((page) => page.dataset.obsid), ...Object.keys(said)])) {
      const mine = said[obsid] || {};
      if (mine.verdict) lines.push([obsid, mine.verdict, quote(mine.comment || ""), quote(about.catalog)].join(","));
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
    link.download = "vetted.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const header of document.querySelectorAll("#stars th[data-name]")) {
    header.querySelector("button").addEventListener("click", () => sort(header));
  }
  const box = document.getElementById("filter");
  if (box) box.addEventListener("input", filter);
  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", save);
  for (const page of pages) {
    for (const button of page.querySelectorAll("[data-verdict]")) {
      button.addEventListener("click", () => vet(page, button.dataset.verdict));
    }
    for (const button of page.querySelectorAll("[data-turn]")) {
      button.addEventListener("click", () => turn(Number(button.dataset.turn)));
    }
    page.querySelector("textarea").addEventListener("input", (event) => {
      said[page.dataset.obsid] = { ...said[page.dataset.obsid], comment: event.target.value };
      keep();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    const page = current();
    const verdict = { a: "accept", r: "reject", u: "unsure" }[event.key];
    if (verdict && page) vet(page, verdict);
    else if (event.key === "j") turn(1);
    else if (event.key === "k") turn(-1);
    else if (event.key === "Escape" && page) go("");
    else if (event.key === "/" && !page && box) { box.focus(); event.preventDefault(); }
  });
  window.addEventListener("hashchange", open);
  show();
  if (box) filter();
  open();
})();
