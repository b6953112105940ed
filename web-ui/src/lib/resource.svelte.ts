// What a view reads: not there yet, an error, or data.

import { asApiError, type ApiError } from "../api/client";

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

  /** Forgets what is there: the view asks for something else now. */
  clear(): void {
    this.#isNews(++this.#asked);
    [this.data, this.error] = [null, null];
  }

  /** Takes what came another way. */
  set(data: T): void {
    this.#isNews(++this.#asked);
    [this.data, this.error] = [data, null];
  }

  /** Whether nothing that was asked for later is shown already. */
  #isNews(turn: number): boolean {
    if (turn < this.#shown) return false;
    this.#shown = turn;
    return true;
  }
}
