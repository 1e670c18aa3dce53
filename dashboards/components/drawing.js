// Builds the tree that Python sends. Only listed tags and attributes are allowed, every string becomes a
// text node, and links lead inside the dashboard or to a plain http(s) address.
const SVG = new Set(["svg", "g", "rect", "line", "path", "text", "title"])
const TAGS = new Set(
  ("a abbr button code dd div dl dt em g h2 h3 li line mark ol p path rect section small span strong svg table tbody " +
    "td text th thead time title tr ul").split(" "),
)
const ATTRIBUTES = new Set(
  ("aria-current aria-hidden aria-label aria-sort class colspan d data-name datetime height href preserveAspectRatio role rowspan scope style " +
    "tabindex text-anchor title viewBox width x x1 x2 y y1 y2").split(" "),
)
const HELD_MS = 450
const INSIDE = /^[a-z]+(\?[^#]*)?$/
const OUTSIDE = /^https?:\/\//

function setLink(element, href) {
  if (INSIDE.test(href)) {
    element.setAttribute("href", href)
  } else if (OUTSIDE.test(href)) {
    element.setAttribute("href", href)
    element.setAttribute("target", "_blank")
    element.setAttribute("rel", "noopener noreferrer")
  }
}

function build(node) {
  if (typeof node === "string") return document.createTextNode(node)
  const [tag, attributes, children] = node
  if (!TAGS.has(tag)) throw new Error(`element ${tag} is not drawn`)
  const element = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "href") setLink(element, value)
    else if (ATTRIBUTES.has(name)) element.setAttribute(name, value)
  }
  for (const child of children) element.appendChild(build(child))
  return element
}

// Opens an address of the dashboard as the back button would: one entry in the history, no reload.
function go(href) {
  window.history.pushState(null, "", href)
  window.dispatchEvent(new PopStateEvent("popstate"))
}

// The definition of a term, below it: a click, a touch or Enter opens it, the next one or Escape closes it.
function toggleTip(root, button) {
  const open = root.querySelector(".definition")
  const same = open && open._of === button
  if (open) {
    open._of.setAttribute("aria-expanded", "false")
    open.remove()
  }
  if (!button || same) return
  const tip = document.createElement("div")
  tip.className = "definition"
  tip.setAttribute("role", "status")
  tip.textContent = button.title
  tip._of = button
  button.setAttribute("aria-expanded", "true")
  root.append(tip)
  const box = button.getBoundingClientRect()
  const size = tip.getBoundingClientRect()
  const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - size.width - 8))
  const below = box.bottom + size.height + 8 < window.innerHeight
  tip.style.left = `${left}px`
  tip.style.top = `${below ? box.bottom + 4 : Math.max(8, box.top - size.height - 4)}px`
}

// The title of a link, which a mouse sees: the keyboard sees it on coming there, a finger on holding it.
function titlesForAll(root) {
  let held
  const titled = (event) => event.target.closest("a[title]")
  if (!root._listens) {
    root.addEventListener("focusin", (event) => {
      const link = titled(event)
      if (link?.matches(":focus-visible")) toggleTip(root, link)
    })
    root.addEventListener("focusout", (event) => {
      if (titled(event)) toggleTip(root, null)
    })
    root._listens = true
  }
  root.onpointerdown = (event) => {
    const link = titled(event)
    if (link && event.pointerType === "touch") held = setTimeout(() => toggleTip(root, link), HELD_MS)
  }
  root.onpointerup = root.onpointercancel = () => clearTimeout(held)
}

export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".root")
  root.replaceChildren(...data.nodes.map(build))
  root.onkeydown = (event) => {
    if (event.key === "Escape") toggleTip(root, null)
  }
  titlesForAll(root)
  root.onclick = (event) => {
    const define = event.target.closest("button.define")
    toggleTip(root, define)
    if (define) return
    const copy = event.target.closest("button.copy")
    if (copy) {
      navigator.clipboard.writeText(copy.title).then(() => (copy.textContent = "copied"))
      return
    }
    const link = event.target.closest("a[href]")
    if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return
    const href = link.getAttribute("href")
    if (!INSIDE.test(href)) return
    event.preventDefault()
    go(href)
  }
}
