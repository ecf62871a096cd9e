// Renders a component around the README's hook under React's StrictMode and reports the answer's text.
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { JSDOM } from 'jsdom';

const { window } = new JSDOM('<div id="root"></div>', { url: 'http://127.0.0.1/' });
// jsdom knows no AbortSignal but its own; the page's listeners may stay.
const listen = window.document.addEventListener.bind(window.document);
window.document.addEventListener = (type, listener, options) => listen(type, listener, options === true);
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: false });

const { createElement, StrictMode, useEffect } = await import('react');
const { createRoot } = await import('react-dom/client');

async function chat({ hook, prompt }) {
  const { useTailrace } = await import(pathToFileURL(hook));
  return new Promise((resolve, reject) => {
    let asked = false;
    const id = `readme-${Date.now()}`;
    function Page() {
      const { messages, sendMessage, status, error } = useTailrace(id, []);
      useEffect(() => {
        if (!asked) {
          asked = true;
          setTimeout(() => sendMessage({ text: prompt }), 50);
        }
        const last = messages.at(-1);
        if (error) reject(error);
        // It may be "ready" a render before it shows the answer's end.
        const texts = last?.role === 'assistant' ? last.parts.filter((part) => part.type === 'text') : [];
        if (status === 'ready' && texts.length && texts.every((part) => part.state === 'done')) {
          resolve(texts.map((part) => part.text).join(''));
        }
      });
      return createElement('p', null, status);
    }
    createRoot(document.getElementById('root')).render(createElement(StrictMode, null, createElement(Page)));
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, do: what, ...fields } = JSON.parse(line);
  try {
    if (what !== 'chat') throw new Error(`unknown command ${what}`);
    process.stdout.write(`${JSON.stringify({ n, value: await chat(fields) })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ n, failed: String(error?.stack ?? error) })}\n`);
  }
}
