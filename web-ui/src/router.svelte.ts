// Addresses of the console: a page and its parameters, filters in the query.

export type Route =
  | { page: "home" }
  | { page: "runs" }
  | { page: "run"; id: string }
  | { page: "modules" }
  | { page: "module"; digest: string }
  | { page: "submit" }
  | { page: "workers" }
  | { page: "worker"; id: string }
  | { page: "settings" }
  | { page: "nowhere" };

function parts(path: string): string[] | null {
  try {
    return path.split("/").filter((part) => part !== "").map(decodeURIComponent);
  } catch {
    return null;
  }
}

/** The route of a path. */
export function routeOf(path: string): Route {
  const [first, second, ...rest] = parts(path) ?? ["?"];
  if (rest.length > 0) return { page: "nowhere" };
  if (first === undefined) return { page: "home" };
  if (first === "runs") return second === undefined ? { page: "runs" } : { page: "run", id: second };
  if (first === "modules") return second === undefined ? { page: "modules" } : { page: "module", digest: second };
  if (first === "workers") return second === undefined ? { page: "workers" } : { page: "worker", id: second };
  if (first === "submit" && second === undefined) return { page: "submit" };
  if (first === "settings" && second === undefined) return { page: "settings" };
  return { page: "nowhere" };
}

class Router {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));
  route = $derived(routeOf(this.path));
  /** Grows with every page that was gone to, so that the focus can follow. */
  visits = $state(0);

  constructor() {
    addEventListener("popstate", () => this.#read());
    // One listener for all links: those of our own origin change the view, others are left to the browser.
    document.addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest("a") : null;
      const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
      if (link === null || !plain || event.defaultPrevented) return;
      if (link.origin !== location.origin || link.target !== "" || link.hasAttribute("download")) return;
      if (link.hash !== "" && link.pathname === location.pathname) return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(address: string): void {
    history.pushState(null, "", address);
    this.#read();
    this.visits += 1;
    scrollTo(0, 0);
  }

  /** Changes filters of the view, without a new entry in the history; an empty value takes one away. */
  filter(changes: Record<string, string>): void {
    this.#rewrite(changes, false);
  }

  /** Goes to another page of a list: the browser's back button leads back. */
  page(changes: Record<string, string>): void {
    this.#rewrite(changes, true);
    scrollTo(0, 0);
  }

  #rewrite(changes: Record<string, string>, isNewEntry: boolean): void {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value === "") query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    const address = text === "" ? this.path : `${this.path}?${text}`;
    if (isNewEntry) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
    this.#read();
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }
}

export const router = new Router();
