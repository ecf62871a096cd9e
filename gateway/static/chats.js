// The user's chats: what this browser remembers, and what the server's feed tells about every tab and device.

import { call, feed } from './api.js';

const KEY = 'tailrace.chats';
const MOST = 60;

export class Chats {
  #known = new Map();
  #names = new Map();
  #listener;

  /** `listener(event)` is called after every change; `event` is the feed's, if it was the cause. */
  constructor(listener) {
    this.#listener = listener;
    for (const chat of JSON.parse(localStorage.getItem(KEY) ?? '[]'))
      this.#known.set(chat.id, { ...chat, running: new Set() });
  }

  /** Latest first. */
  list() {
    return [...this.#known.values()].sort((a, b) => b.at - a.at).slice(0, MOST);
  }

  get(id) {
    return this.#known.get(id);
  }

  /** Note what this page itself starts, before the server says so. */
  started(id, message, title) {
    this.#take({ type: 'started', chat_id: id, message_id: message, title, at: Date.now() / 1000 });
  }

  ended(id, message) {
    this.#take({ type: 'ended', chat_id: id, message_id: message });
  }

  /** The server has nothing of it. */
  forget(id) {
    this.#known.delete(id);
    this.#keep();
    this.#listener();
  }

  /** Name a chat that was started without a title, by another client than this page. */
  name(id, title) {
    if (!title) return;
    this.#names.set(id, title); // the feed may tell of the chat only later
    const chat = this.#known.get(id);
    if (!chat || chat.title) return;
    chat.title = title;
    this.#keep();
    this.#listener();
  }

  /** Listen for good. */
  async watch() {
    await this.#readActive();
    // A line may have been lost with the process that wrote it: once what was kept has been told, look how things stand.
    const onState = (state) => state === 'open' && setTimeout(() => this.#readActive(), 2000);
    for (;;) {
      try {
        for await (const { event } of feed({ onState })) {
          if (event.type === 'reset') await this.#readActive();
          else this.#take(event);
        }
      } catch (error) {
        console.warn('feed', error);
        await new Promise((resolve) => setTimeout(resolve, 10_000));
      }
    }
  }

  async #readActive() {
    const { messages } = await call('GET', '/active').catch(() => ({ messages: null }));
    if (!messages) return;
    for (const chat of this.#known.values()) chat.running.clear();
    for (const { chat_id, message_id, since } of messages)
      this.#take({ type: 'started', chat_id, message_id, at: since });
    this.#listener();
  }

  #take(event) {
    const { type, chat_id: id, message_id: message } = event;
    const chat = this.#known.get(id) ?? { id, title: '', at: 0, last: null, running: new Set() };
    if (type === 'started') {
      this.#known.set(id, chat);
      chat.running.add(message);
      if (event.at >= chat.at) Object.assign(chat, { at: event.at, last: message });
      chat.title ||= event.title ?? this.#names.get(id) ?? '';
    } else if (type === 'ended' || type === 'deleted') chat.running.delete(message);
    this.#keep();
    this.#listener(event);
  }

  #keep() {
    const kept = this.list().map(({ running, ...rest }) => rest);
    localStorage.setItem(KEY, JSON.stringify(kept));
  }
}
