// Elements of the page, by the ids that page.html gives them.

/** The element with this id, of that kind if one is named. An element that is not there is a bug of this page. */
export function byId(id: string): HTMLElement;
export function byId<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind;
export function byId(id: string, kind: new () => HTMLElement = HTMLElement): HTMLElement {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`assertion failed: the page has no ${kind.name} "${id}"`);
  return element;
}
