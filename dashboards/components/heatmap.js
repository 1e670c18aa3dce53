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
    element.tabIndex = position === line.focus ? 0 : -1
    tokens.append(element)
  })
  tokens.setAttribute("role", "group")
  tokens.setAttribute("aria-label", "Tokens of a context: arrow keys go from one to the next")
  tokens.onkeydown = walk
  tokens.append(make("span", "gap after", "…"))
  row.append(value, tokens)
  if (onDocument) {
    const open = make("button", "open", "¶")
    open.type = "button"
    open._tip = ["whole document: " + line.document]
    open.setAttribute("aria-label", "Show the whole document " + line.document)
    open.onclick = () => onDocument({ document: line.document, start: line.span[0], end: line.span[1] })
    row.append(open)
  }
  row._line = line
  row.classList.toggle("target", line.name !== "" && line.name === target)
  return row
}

// One token of a line takes part in the order of Tab; the arrow keys hand that on.
function walk(event) {
  const shown = [...event.currentTarget.querySelectorAll(".token:not(.far)")]
  const from = shown.indexOf(event.target)
  const to = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: shown.length - 1 }[event.key]
  if (from < 0 || to === undefined || !shown[to]) return
  event.preventDefault()
  shown[from].tabIndex = -1
  shown[to].tabIndex = 0
  shown[to].focus()
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

function showTip(tip, element) {
  tip.classList.toggle("on", Boolean(element))
  if (!element) return
  tip.replaceChildren(...element._tip.map((text) => make("div", "", text)))
  const box = element.getBoundingClientRect()
  const size = tip.getBoundingClientRect()
  const left = Math.min(box.left, document.documentElement.clientWidth - size.width - 8)
  tip.style.left = `${Math.max(8, left)}px`
  tip.style.top = `${box.top > size.height + 12 ? box.top - size.height - 6 : box.bottom + 6}px`
}

// The tip of what the pointer is on, the keyboard has come to, or a finger has touched.
function followAttention(root, tip) {
  const told = (event) => event.target.closest(".token, .open")
  root._onFocus = (event) => showTip(tip, event.type === "focusin" ? told(event) : null)
  if (!root._listens) {
    for (const type of ["focusin", "focusout"]) root.addEventListener(type, (event) => root._onFocus(event))
    root._listens = true
  }
  root.onpointerover = (event) => {
    if (event.pointerType !== "touch") showTip(tip, told(event))
  }
  root.onpointerleave = (event) => {
    if (event.pointerType !== "touch") showTip(tip, null)
  }
  root.onclick = (event) => showTip(tip, told(event))
  root.onkeydown = (event) => {
    if (event.key === "Escape") showTip(tip, null)
  }
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
  tip.setAttribute("aria-live", "polite")
  root.replaceChildren(
    topBar(data, onWidth, width),
    ...data.bands.map((band) => bandElement(band, data.shown, onDocument, data.target)),
    tip,
  )
  const first = root.querySelector(".band")
  if (first) first.open = true
  setContext(root, width)
  followAttention(root, tip)
  if (data.target && root._target !== data.target) {
    // Parts above may still be drawn and move it: look for it again a little later.
    for (const wait of [0, 200, 600]) {
      setTimeout(() => root.querySelector(".target")?.scrollIntoView({ block: "center" }), wait)
    }
  }
  root._target = data.target
}
