// Drives the openai package as an application would, by commands on stdin: one JSON command a line in, one answer out.
// Its own defaults, retries included, are not touched.
import { createInterface } from 'node:readline';
import OpenAI from 'openai';

const unhandled = [];
process.on('unhandledRejection', error => unhandled.push(`rejection: ${error}`));
process.on('uncaughtException', error => unhandled.push(`exception: ${error}`));

const sdk = url => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any' });

function told(error) {
  return {
    name: error.constructor.name,
    status: error.status ?? null,
    code: error.code ?? null,
    message: error.message,
    body: error.error ?? null,
    shouldRetry: error.headers?.get?.('x-should-retry') ?? null,
  };
}

const isConnectionError = error => !(error instanceof OpenAI.APIError) || error instanceof OpenAI.APIConnectionError;

// Reads a stream to its end or its error, and tells which.
async function collect(stream, most = Infinity) {
  const events = [];
  try {
    for await (const event of stream) {
      events.push(event);
      if (events.length >= most) break;
    }
  } catch (error) {
    return { events, error: told(error), broken: isConnectionError(error) };
  }
  return { events, error: null, broken: false };
}

const text = events =>
  events
    .map(event => (event.type === 'response.output_text.delta' ? event.delta : event.choices?.[0]?.delta?.content) ?? '')
    .join('');

const DO = {
  async chat_stream({ url, body, options }) {
    const { events, error } = await collect(await sdk(url).chat.completions.create({ ...body, stream: true }, options));
    const reasoning = events.map(chunk => chunk.choices[0]?.delta?.reasoning_content ?? '').join('');
    const finish = events.map(chunk => chunk.choices[0]?.finish_reason).filter(Boolean);
    return { text: text(events), reasoning, finish, usage: events.map(chunk => chunk.usage), id: events[0]?.id, error };
  },
  async chat_whole({ url, body, options }) {
    return sdk(url).chat.completions.create(body, options);
  },
  async chat_helper({ url, body }) {
    const stream = sdk(url).chat.completions.stream(body);
    let content = '';
    stream.on('content', delta => (content += delta));
    return { final: await stream.finalChatCompletion(), content, usage: (await stream.totalUsage()) ?? null };
  },
  async response_whole({ url, body }) {
    const response = await sdk(url).responses.create(body);
    return { ...response, output_text: response.output_text };
  },
  async response_stream({ url, body }) {
    const { events, error } = await collect(await sdk(url).responses.create({ ...body, stream: true }));
    return { text: text(events), events, error };
  },
  async response_helper({ url, body }) {
    const stream = sdk(url).responses.stream(body);
    const kinds = [];
    stream.on('event', event => kinds.push(event.type));
    const final = await stream.finalResponse();
    return { final, kinds, output_text: final.output_text };
  },
  // Goes on after every broken connection, until the stream ends in order.
  async background({ url, body }) {
    const client = sdk(url);
    let got = await collect(await client.responses.create({ ...body, background: true, stream: true }));
    const events = got.events;
    const id = events[0].response.id;
    let resumes = 0;
    while (got.broken) {
      resumes += 1;
      const query = { stream: true, starting_after: events.at(-1).sequence_number };
      got = await collect(await client.responses.retrieve(id, query));
      events.push(...got.events);
    }
    return { id, resumes, events, text: text(events), error: got.error };
  },
  async begin({ url, body, most }) {
    const got = await collect(await sdk(url).responses.create({ ...body, background: true, stream: true }), most);
    return { id: got.events[0].response.id, events: got.events };
  },
  async helper_resume({ url, id, after }) {
    const stream = sdk(url).responses.stream({ response_id: id, starting_after: after });
    const events = [];
    stream.on('event', event => events.push(event));
    const final = await stream.finalResponse();
    return { events, text: text(events), output_text: final.output_text, status: final.status };
  },
  async retrieve({ url, id }) {
    const response = await sdk(url).responses.retrieve(id);
    return { ...response, output_text: response.output_text };
  },
  async cancel({ url, id }) {
    return sdk(url).responses.cancel(id);
  },
  async delete({ url, id }) {
    await sdk(url).responses.delete(id);
    return true;
  },
  async input_items({ url, id }) {
    const items = [];
    for await (const item of sdk(url).responses.inputItems.list(id, { order: 'asc', limit: 2 })) items.push(item);
    return items;
  },
  async models({ url }) {
    const found = [];
    for await (const model of sdk(url).models.list()) found.push(model.id);
    return found;
  },
  // The error that another command ends with.
  async error(command) {
    try {
      await DO[command.of](command);
    } catch (error) {
      return told(error);
    }
    return null;
  },
  async unhandled() {
    return unhandled;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  Promise.resolve()
    .then(() => DO[command.do](command))
    .then(value => ({ value }), error => ({ failed: String(error?.stack ?? error) }))
    .then(answer => process.stdout.write(`${JSON.stringify({ n: command.n, ...answer })}\n`));
}
process.exit(0);
