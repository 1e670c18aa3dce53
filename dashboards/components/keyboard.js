// One listener for the keys of the page; it ignores keys typed in a field.
const listeners = new WeakMap()
const tops = new WeakMap()

function make(tag, text, className) {
  const element = document.createElement(tag)
  if (text) element.textContent = text
  if (className) element.className = className
  return element
}

function helpDialog(keys) {
  const dialog = make("dialog")
  dialog.setAttribute("aria-label", "Keyboard help")
  const list = make("dl")
  for (const [key, meaning] of keys) list.append(make("dt", key), make("dd", meaning))
  const close = make("button", "Close")
  close.onclick = () => dialog.close()
  dialog.append(make("h2", "Keys"), list, close)
  return dialog
}

function typing(event) {
  const target = event.composedPath()[0]
  return target instanceof Element && target.matches("input:not([type=range]), textarea, select, [contenteditable=true]")
}

function focusSearch(label) {
  const field = document.querySelector(`input[aria-label="${label}"]`)
  if (!field) return false
  field.focus()
  field.select()
  return true
}

// Like the links of a drawing: one entry in the history, no reload.
function go(href) {
  window.history.pushState(null, "", href)
  window.dispatchEvent(new PopStateEvent("popstate"))
}

// Another page of a table starts at its top.
function scrollUp(parentElement, top) {
  const before = tops.get(parentElement)
  tops.set(parentElement, top)
  if (before && top && before !== top) document.querySelector("[data-testid=stMain]")?.scrollTo({ top: 0 })
}

export default function (component) {
  const { data, parentElement } = component
  scrollUp(parentElement, data.top)
  const root = parentElement.querySelector(".root")
  const dialog = helpDialog(data.keys)
  const hint = make("button", "Keys: ? for help", "hint")
  hint.type = "button"
  hint.onclick = () => dialog.showModal()
  root.replaceChildren(hint, dialog)

  const onKey = (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || typing(event)) return
    if (event.key === "?") dialog.open ? dialog.close() : dialog.showModal()
    else if (event.key === "/") focusSearch(data.field) || go(data.search)
    else if (["j", "k", "r"].includes(event.key) && data[event.key]) go(data[event.key])
    else return
    event.preventDefault()
  }
  const earlier = listeners.get(parentElement)
  if (earlier) document.removeEventListener("keydown", earlier)
  listeners.set(parentElement, onKey)
  document.addEventListener("keydown", onKey)
  return () => document.removeEventListener("keydown", listeners.get(parentElement))
}
