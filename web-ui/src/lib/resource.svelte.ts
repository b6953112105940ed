// What a view reads: loading, then data or an error. An answer that comes late never replaces a newer one.

import { ApiError } from "../api/client";

export function asApiError(cause: unknown): ApiError {
  return cause instanceof ApiError ? cause : new ApiError("unexpected", String(cause));
}

export class Resource<T> {
  data = $state.raw<T | null>(null);
  error = $state.raw<ApiError | null>(null);
  #asked = 0;
  #shown = 0;

  constructor(private readonly read: () => Promise<T>) {}

  get loading(): boolean {
    return this.data === null && this.error === null;
  }

  /** Reads (again). What is there stays until the answer comes; an error replaces nothing but the error. */
  async refresh(): Promise<void> {
    const turn = ++this.#asked;
    try {
      const data = await this.read();
      if (this.#isNews(turn)) [this.data, this.error] = [data, null];
    } catch (cause) {
      if (this.#isNews(turn)) this.error = asApiError(cause);
    }
  }

  /** Takes what came another way. */
  set(data: T): void {
    this.#isNews(++this.#asked);
    this.data = data;
    this.error = null;
  }

  /** Whether nothing that was asked for later is shown already. */
  #isNews(turn: number): boolean {
    if (turn < this.#shown) return false;
    this.#shown = turn;
    return true;
  }
}
