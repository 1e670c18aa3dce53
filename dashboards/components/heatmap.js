// Lines of tokens with a heat-map. Every text is set with textContent; nothing here parses markup.
const CONTEXT_KEY = "featlas-context"

function make(tag, className, text) {
  const element = document.createElement(tag)
  if (className) element.className = className
  if (text !== undefined) element.textContent = text
  return element
}

function tokenElement(token) {
  const element = make("span", "token")
  element.style.setProperty("--h", token.heat > 0 ? Math.max(0.06, token.heat) : 0)
  for (const [text, isMark] of token.runs) {
    if (isMark) {
      element.appendChild(make("span", "hidden-mark", text))
      continue
    }
    for (const part of text.split(/( )/)) {
      if (part === " ") element.appendChild(make("span", "space", " "))
      else if (part) element.appendChild(document.createTextNode(part))
    }
  }
  if (token.split) element.classList.add("shared")
  if (token.special) element.classList.add("special")
  return element
}

function lineElement(line, onDocument, target) {
  const row = make("div", "example")
  const value = make("span", "max", line.value)
  const tokens = make("div", "tokens")
  tokens.dir = "ltr"
  tokens.append(make("span", "gap before", "…"))
  line.tokens.forEach((token, position) => {
    const element = tokenElement(token)
    if (position === line.peak) element.classList.add("peak")
    element._tip = token.tip
    tokens.append(element)
  })
  tokens.append(make("span", "gap after", "…"))
  row.append(value, tokens)
  if (onDocument) {
    const open = make("button", "open", "¶")
    open.type = "button"
    open.title = "whole document: " + line.document
    open.setAttribute("aria-label", "Show the whole document " + line.document)
    open.onclick = () => onDocument({ document: line.document, start: line.span[0], end: line.span[1] })
    row.append(open)
  }
  row._line = line
  row.classList.toggle("target", line.name !== "" && line.name === target)
  return row
}

function bandElement(band, shown, onDocument, target) {
  const section = make("details", "band")
  const header = make("summary")
  const count = `${band.lines.length} ${band.lines.length === 1 ? "context" : "contexts"}`
  header.append(make("h3", "", band.title), make("span", "quiet small", `${band.note}, ${count}`.replace(/^, /, "")))
  section.append(header)
  const rows = band.lines.map((line) => lineElement(line, onDocument, target))
  rows.forEach((row, position) => {
    row.hidden = position >= shown
    row.style.display = position >= shown ? "none" : ""
    section.append(row)
  })
  const aim = rows.findIndex((row) => row.classList.contains("target"))
  if (rows.length > shown) {
    const more = make("button", "more", `Show all ${rows.length}`)
    more.type = "button"
    more.onclick = () => {
      rows.forEach((row) => {
        row.hidden = false
        row.style.display = ""
      })
      more.remove()
    }
    section.append(more)
    if (aim >= shown) more.onclick()
  }
  section.open = aim >= 0
  return section
}

function setContext(root, width) {
  for (const row of root.querySelectorAll(".example")) {
    const tokens = row.querySelectorAll(".token")
    const focus = row._line.focus
    tokens.forEach((token, position) => token.classList.toggle("far", Math.abs(position - focus) > width))
    const [before, after] = row._line.cut
    row.querySelector(".before").hidden = focus - width <= 0 && !before
    row.querySelector(".after").hidden = focus + width >= tokens.length - 1 && !after
  }
}

function topBar(data, onWidth, width) {
  const bar = make("div", "bar-top")
  const label = make("label")
  const value = make("span", "", String(width))
  const slider = make("input")
  slider.type = "range"
  slider.min = 1
  slider.max = Math.max(2, data.longest)
  slider.value = width
  slider.setAttribute("aria-label", "Context: tokens shown on each side of the peak")
  slider.oninput = () => {
    value.textContent = slider.value
    onWidth(Number(slider.value))
  }
  label.append("Context ± ", slider, value)
  const legend = make("span", "legend")
  legend.append("0", make("i"), data.scale)
  const said = "colour: root of the share of the largest activation; the peak is underlined; at the left the largest of each context"
  bar.append(label, legend, make("span", "", said))
  return bar
}

function followPointer(root, tip) {
  root.onpointerover = (event) => {
    const token = event.target.closest(".token")
    tip.classList.toggle("on", Boolean(token))
    if (!token) return
    tip.replaceChildren(...token._tip.map((text) => make("div", "", text)))
    const box = token.getBoundingClientRect()
    const size = tip.getBoundingClientRect()
    const left = Math.min(box.left, document.documentElement.clientWidth - size.width - 8)
    tip.style.left = `${Math.max(8, left)}px`
    tip.style.top = `${box.top > size.height + 12 ? box.top - size.height - 6 : box.bottom + 6}px`
  }
  root.onpointerleave = () => tip.classList.remove("on")
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".root")
  const stored = Number(window.sessionStorage.getItem(CONTEXT_KEY))
  const width = Math.min(stored > 0 ? stored : data.context, Math.max(2, data.longest))
  const onWidth = (value) => {
    window.sessionStorage.setItem(CONTEXT_KEY, String(value))
    setContext(root, value)
  }
  const onDocument = data.documents ? (place) => setTriggerValue("document", place) : null
  const tip = make("div", "tip")
  tip.setAttribute("role", "tooltip")
  root.replaceChildren(
    topBar(data, onWidth, width),
    ...data.bands.map((band) => bandElement(band, data.shown, onDocument, data.target)),
    tip,
  )
  const first = root.querySelector(".band")
  if (first) first.open = true
  setContext(root, width)
  followPointer(root, tip)
  if (data.target && root._target !== data.target) {
    // Parts above may still be drawn and move it: look for it again a little later.
    for (const wait of [0, 200, 600]) {
      setTimeout(() => root.querySelector(".target")?.scrollIntoView({ block: "center" }), wait)
    }
  }
  root._target = data.target
}
