// Addresses of the console: a page and its parameters, filters in the query.

export type Route =
  | { page: "runs" }
  | { page: "run"; id: string }
  | { page: "modules" }
  | { page: "module"; digest: string }
  | { page: "submit" }
  | { page: "workers" }
  | { page: "nowhere" };

/** The route of a path. */
export function routeOf(path: string): Route {
  const [first, second, ...rest] = path.split("/").filter((part) => part !== "").map(decodeURIComponent);
  if (rest.length > 0) return { page: "nowhere" };
  if (first === undefined) return { page: "runs" };
  if (first === "runs") return second === undefined ? { page: "runs" } : { page: "run", id: second };
  if (first === "modules") return second === undefined ? { page: "modules" } : { page: "module", digest: second };
  if (first === "submit" && second === undefined) return { page: "submit" };
  if (first === "workers" && second === undefined) return { page: "workers" };
  return { page: "nowhere" };
}

class Router {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));
  route = $derived(routeOf(this.path));

  constructor() {
    addEventListener("popstate", () => this.#read());
    // One listener for all links: those of our own origin change the view, others are left to the browser.
    document.addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest("a") : null;
      const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
      if (link === null || !plain || event.defaultPrevented) return;
      if (link.origin !== location.origin || link.target !== "" || link.hasAttribute("download")) return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(address: string): void {
    history.pushState(null, "", address);
    this.#read();
    scrollTo(0, 0);
  }

  /** Changes one filter of the view, without a new entry in the history. */
  filter(name: string, value: string): void {
    const query = new URLSearchParams(this.query);
    if (value === "") query.delete(name);
    else query.set(name, value);
    const text = query.toString();
    history.replaceState(null, "", text === "" ? this.path : `${this.path}?${text}`);
    this.#read();
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }
}

export const router = new Router();
