// A node behind a real sshd: the agent is brought up to date, what goes wrong is told, what is cut off is found out.
// Nightly: an agent that hangs, for which half a minute is waited.
// Long because: one sshd serves all of it.
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KraftwerkError, NodeProfile } from '../../node-agent/protocol.ts';
import { renderNodeFiles } from '../../receiver/deploy/render.ts';
import { installPath } from '../../receiver/install-root.ts';
import { createAgents } from '../../receiver/nodes/agents.ts';
import type { AgentConnector } from '../../receiver/nodes/connector.ts';
import { nodeTemplates } from '../../receiver/nodes/create-nodes.ts';
import { probeHostKey } from '../../receiver/nodes/host-key-pin.ts';
import { createNode } from '../../receiver/nodes/node.ts';
import { createSession } from '../../receiver/nodes/session.ts';
import { isAlive, waitFor } from '../actors/processes.ts';
import {
  type LoggedFields,
  lacksSshd,
  layCable,
  startSshd,
  type Talk,
  type TestSshd,
  talk,
  writeTestAgent,
} from '../actors/sshd.ts';
import { thorough } from '../actors/thorough.ts';

const lacking = lacksSshd();
if (lacking !== null) console.warn(`skipped: tests/scenarios/ssh-node.test.ts: ${lacking}`);

async function refusal(work: Promise<unknown>): Promise<KraftwerkError> {
  return await work.then(
    () => {
      throw new Error('it was not refused');
    },
    (error: unknown) => error as KraftwerkError,
  );
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Bytes that something still holds, without garbage, of which there may be any amount. */
function kept(): number {
  collectGarbage();
  const { external, heapUsed } = process.memoryUsage();
  return external + heapUsed;
}

async function elapsed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

describe.skipIf(lacking !== null)('a node behind sshd', () => {
  let sshd: TestSshd;
  let folder: string;
  let agent: string;
  const events: LoggedFields[] = [];
  const connectors: AgentConnector[] = [];

  function connect(...args: Parameters<TestSshd['connector']>): AgentConnector {
    const connector = sshd.connector(...args);
    connectors.push(connector);
    return connector;
  }

  beforeAll(async () => {
    sshd = await startSshd({ greeting: 'echo welcome; echo of the day >&2; printf "not a line"' });
    folder = mkdtempSync(join(tmpdir(), 'kraftwerk-ssh-node-'));
    agent = writeTestAgent(folder, 'first');
  });
  afterAll(async () => {
    for (const connector of connectors) await connector.close();
    await sshd?.cleanUp();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  it('gets the agent at its first use, and not again', async () => {
    const connector = connect(agent, {}, events);
    const first = await talk(connector);
    first.order({ op: 'echo', text: 'grüße' });
    expect(await first.answer()).toMatchObject({ name: 'first', text: 'grüße' });
    first.channel.stdin.end();
    expect(await first.channel.ended).toBe('with exit code 0');
    const second = await talk(connector);
    second.channel.stdin.end();
    await second.channel.ended;
    expect(events.map(({ event }) => event)).toEqual(['node.connected', 'node.agent_installed']);
    expect(readFileSync(join(sshd.lib, 'agent.version'), 'utf8')).toBe('0.2.0\n');
  });

  it('takes an agent of another version once, though many ask for it', async () => {
    const seen: LoggedFields[] = [];
    const connector = connect(writeTestAgent(folder, 'second'), { version: '0.10.0' }, seen);
    const talks = await Promise.all(Array.from({ length: 5 }, () => talk(connector)));
    for (const one of talks) {
      one.order({ op: 'echo', text: '' });
      expect(await one.answer()).toMatchObject({ name: 'second' });
      one.channel.stdin.end();
    }
    expect(seen.filter(({ event }) => event === 'node.agent_installed')).toMatchObject([
      { version: '0.10.0', from: '0.2.0' },
    ]);
    expect(seen.filter(({ event }) => event === 'node.connected')).toHaveLength(1);
  });

  it('refuses a receiver that is older', async () => {
    const error = await refusal(connect(writeTestAgent(folder, 'third'), { version: '0.9.0' }).open());
    expect(error.code).toBe('node.newer');
    expect(error.message).toBe('node web1: its agent is of kraftwerk 0.10.0, this receiver is 0.9.0');
    expect(error.hints[0]).toBe('bring the receiver up to date: npm install -g kraftwerk-paas@0.10.0');
    writeFileSync(join(sshd.lib, 'agent.version'), '0.2.0\n');
  });

  it('gives the agent a clean environment', async () => {
    const one = await talk(connect(agent));
    one.order({ op: 'environment' });
    const { environment, cwd } = await one.answer();
    expect(Object.keys(environment as object).sort()).toEqual(['HOME', 'LANG', 'PATH']);
    expect(cwd).toBe('/');
    one.channel.stdin.end();
  });

  it('tells how an agent has ended, and what it said', async () => {
    const connector = connect(agent);
    const one = await talk(connector);
    one.order({ op: 'complain', text: 'no such thing\n' });
    one.order({ op: 'exit', code: 3 });
    one.channel.stdout.resume();
    expect(await one.channel.ended).toBe('with exit code 3');
    expect(String(one.channel.stderr.read())).toBe('of the day\nno such thing\n');
    const other = await talk(connector);
    other.order({ op: 'echo', text: '' });
    const { pid } = await other.answer();
    process.kill(Number(pid), 'SIGKILL');
    expect(await other.channel.ended).toBe('by SIGKILL');
  });

  it('is not spoken to when it shows another host key', async () => {
    const hostKey = `SHA256:${'A'.repeat(43)}`;
    const before = sshd.log.length;
    const error = await refusal(connect(agent, { hostKey }).open());
    expect(error.code).toBe('node.host-key');
    expect(error.message).toBe(`node web1: 127.0.0.1:${sshd.port} is not the server that was pinned`);
    expect(error.lines).toEqual([`expected ${hostKey}`, `got      ${sshd.hostKey} (ssh-ed25519)`]);
    expect(error.hints[0]).toContain('kraftwerk setup-node web1');
    expect(sshd.log.slice(before).join('\n')).not.toContain('Accepted');
    for (const missing of ['', 'SHA256:', 'MD5:00:11'])
      expect((await refusal(connect(agent, { hostKey: missing }).open())).message).toBe(
        'node web1: no host key is pinned',
      );
  });

  it('shows its host key to whoever wants to pin it', async () => {
    expect(await probeHostKey('127.0.0.1', sshd.port)).toEqual({
      fingerprint: sshd.hostKey,
      type: 'ssh-ed25519',
      publicKey: readFileSync(join(sshd.folder, 'host_key.pub'), 'utf8').split(' ').slice(0, 2).join(' '),
    });
    const error = await refusal(probeHostKey('127.0.0.1', 1, 2_000));
    expect(error.message).toBe('no SSH server at 127.0.0.1:1: connection refused');
  });

  it('may not admit the receiver', async () => {
    const authorized = readFileSync(join(sshd.folder, 'authorized_keys'), 'utf8');
    writeFileSync(join(sshd.folder, 'authorized_keys'), '');
    const error = await refusal(connect(agent).open()).finally(() =>
      writeFileSync(join(sshd.folder, 'authorized_keys'), authorized),
    );
    expect(error.code).toBe('node.login');
    expect(error.message).toBe(`node web1: ${sshd.user}@127.0.0.1:${sshd.port} does not admit the receiver`);
  });

  it('may have lost its agent-login', async () => {
    const path = join(sshd.lib, 'agent-login');
    cpSync(path, `${path}.kept`);
    rmSync(path);
    const error = await refusal(connect(agent).open()).finally(() => cpSync(`${path}.kept`, path));
    expect(error.code).toBe('node.agent');
    expect(error.message).toBe(
      `node web1: ${sshd.user}@127.0.0.1:${sshd.port} does not start the agent: ended with exit code 127`,
    );
    expect(error.lines.join('\n')).toMatch(/agent-login.*(not found|No such file)/);
    expect(error.hints).toEqual(['kraftwerk setup-node web1']);
  });

  it('is found out at once when it goes down in the middle of a request, and reached again by the next', async () => {
    const seen: LoggedFields[] = [];
    const connector = connect(agent, {}, seen);
    const node = { name: 'web1', profile: { profile: 'system' }, files: null } as const;
    const opening = connector.open();
    const session = createSession(node, createAgents(node, { ...connector, open: () => opening }));
    const request = refusal(session.request({ op: 'hello' }, { timeoutMs: 60_000 }));
    await opening;
    const one = await talk(connector);
    const tookMs = await elapsed(async () => {
      sshd.cut();
      expect(await one.channel.ended).toBe('because the connection was lost');
    });
    expect((await request).message).toBe(
      'node web1: the agent ended because the connection was lost without an answer',
    );
    expect((await request).code).toBe('node.lost');
    expect(tookMs).toBeLessThan(20_000);
    await waitFor('the agents to end', () => sshd.agents().length === 0);
    const next = await talk(connector);
    next.order({ op: 'echo', text: 'again' });
    expect(await next.answer()).toMatchObject({ text: 'again' });
    next.channel.stdin.end();
    expect(seen.map(({ event }) => event).filter((event) => event !== 'node.agent_installed')).toEqual([
      'node.connected',
      'node.disconnected',
      'node.connected',
    ]);
    // Whoever still writes to what is lost is let go.
    await new Promise<void>((resolve) => one.channel.stdin.write(Buffer.alloc(1_000_000), () => resolve()));
  });

  it('is unreachable while sshd is stopped, and reached while sshd starts', async () => {
    const connector = connect(agent);
    (await talk(connector)).channel.stdin.end();
    await sshd.stop();
    let error: KraftwerkError | null = null;
    const tookMs = await elapsed(async () => {
      error = await refusal(connector.open());
    });
    expect(error).toMatchObject({
      code: 'node.unreachable',
      message: `node web1: no connection to 127.0.0.1:${sshd.port}: connection refused`,
      reason: 'node web1 is unreachable',
    });
    expect(tookMs).toBeLessThan(9_500);
    const opened = talk(connector);
    await sshd.start();
    (await opened).channel.stdin.end();
  });

  it('is unreachable when a host takes the connection and is silent', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    const connector = connect(agent, { port, limits: { connectMs: 500 } });
    const [error, other] = await Promise.all([refusal(connector.open()), refusal(connector.open())]);
    expect(error.message).toBe(`node web1: no connection to 127.0.0.1:${port}: timed out`);
    expect(error.hints).toEqual([
      `look whether it is up: ssh -p ${port} ${sshd.user}@127.0.0.1 true`,
      "to go on without it, take web1 out of the environment in the receiver's configuration",
    ]);
    expect(other.code).toBe('node.unreachable');
    // Whoever comes next is not kept waiting for the same answer.
    expect(await elapsed(() => refusal(connector.open()))).toBeLessThan(450);
    silent.close();
  });

  it.each([
    ['hangs up', '', /: closed|: connection (lost|reset)/i],
    ['speaks HTTP', 'HTTP/1.1 400 Bad Request\r\n\r\n', /./],
    ['speaks nonsense', 'SSH-2.0-x\r\n\0\0\0\xff\xff\xff\xff', /./],
  ])('is unreachable when what answers there %s', async (_what, says, why) => {
    const other = createServer((socket) => socket.on('error', () => undefined).end(says, 'latin1')).listen(
      0,
      '127.0.0.1',
    );
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as { port: number };
    const error = await refusal(connect(agent, { port, limits: { connectMs: 2_000 } }).open());
    expect(error).toMatchObject({ code: 'node.unreachable', message: expect.stringMatching(why) });
    other.close();
  });

  it('is found out when its cable is cut, in the middle of a request and before one', async () => {
    const cable = await layCable(sshd.port);
    const connector = connect(agent, { port: cable.port, limits: { silenceMs: 1_400, answerMs: 400 } });
    const one = await talk(connector);
    cable.pull();
    expect(await one.channel.ended).toBe('because the connection was lost');
    cable.heal();
    const two = await talk(connector);
    two.channel.stdin.end();
    expect(await two.channel.ended).toBe('with exit code 0');

    const patient = connect(agent, { port: cable.port, limits: { answerMs: 400 } });
    // What runs there already is not given up so soon: it may be a machine with too much to do.
    const busy = await talk(patient);
    cable.pull();
    setTimeout(() => cable.heal(), 200);
    const three = await talk(patient);
    three.order({ op: 'echo', text: 'through' });
    expect(await three.answer()).toMatchObject({ text: 'through' });
    three.channel.stdin.end();
    const known = await Promise.race([busy.channel.ended, three.channel.ended]);
    expect(known).toBe('with exit code 0');
    cable.close();
    expect(await busy.channel.ended).toBe('because the connection was lost');
  });

  it('takes 100 MB on stdin and gives 50 MB on stdout without keeping them in memory', async () => {
    const connector = connect(agent);
    const one = await talk(connector);
    const piece = Buffer.alloc(64 * 1024, 'kraftwerk');
    const pieces = 1_600;
    const hash = createHash('sha256');
    for (let at = 0; at < pieces; at++) hash.update(piece);
    const before = kept();
    let most = before;
    async function* bytes() {
      for (let at = 0; at < pieces; at++) {
        if (at % 100 === 0) most = Math.max(most, kept());
        // A copy each, so that what is kept counts.
        yield Buffer.from(piece);
      }
    }
    one.order({ op: 'count', bytes: pieces * piece.length });
    Readable.from(bytes(), { objectMode: false, highWaterMark: 64 * 1024 }).pipe(one.channel.stdin, { end: false });
    expect(await one.answer()).toMatchObject({ counted: pieces * piece.length, sha256: hash.digest('hex') });
    expect(most - before).toBeLessThan(20 * 1024 * 1024);

    // Nobody reads: the agent has to wait, as soon as window and pipe are full.
    const two = await connector.open();
    two.stdin.write(`${JSON.stringify({ op: 'print', lines: 50_000 })}\n`);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(two.stdout.readableLength).toBeLessThan(256 * 1024);
    let length = 0;
    let looked = 0;
    for await (const chunk of two.stdout) {
      length += (chunk as Buffer).length;
      if (length > looked + 5_000_000) {
        looked = length;
        most = Math.max(most, kept());
      }
      if (length > 50_000_000) break;
    }
    expect(length).toBeGreaterThan(50_000_000);
    expect(most - before).toBeLessThan(20 * 1024 * 1024);
    one.channel.stdin.end();
  });

  it('answers twelve requests at once, over one connection', async () => {
    const seen: LoggedFields[] = [];
    // A busy machine takes its time to answer eight; a second connection would come too early.
    const limits = { roomMs: 60_000, fullMs: 90_000, connections: 2 };
    const connector = connect(agent, { limits }, seen);
    const ask = async (text: string): Promise<unknown> => {
      const one = await talk(connector);
      one.order({ op: 'echo', text });
      const answer = await one.answer();
      one.channel.stdin.end();
      await one.channel.ended;
      return answer.text;
    };
    const texts = Array.from({ length: 12 }, (_, index) => `number ${index}`);
    expect(await Promise.all(texts.map(ask))).toEqual(texts);
    expect(seen.filter(({ event }) => event === 'node.connected')).toHaveLength(1);
  });

  it('takes one more connection while more agents than one can carry go on, and says when there are too many', async () => {
    const seen: LoggedFields[] = [];
    const limits = { roomMs: 100, fullMs: 4000, connections: 2 };
    const connector = connect(agent, { limits }, seen);
    const talks: Talk[] = await Promise.all(Array.from({ length: 16 }, () => talk(connector)));
    expect(seen.filter(({ event }) => event === 'node.connected')).toHaveLength(2);
    const error = await refusal(connector.open());
    expect(error.message).toBe('node web1: 16 agents run there already');
    const waiting = talk(connector);
    for (const one of talks) one.channel.stdin.end();
    await Promise.all(talks.map(({ channel }) => channel.ended));
    (await waiting).channel.stdin.end();
    await (await waiting).channel.ended;
    // One stays.
    await waitFor('the other connection to end', () => sshd.sessions().length <= connectors.length);
    (await talk(connector)).channel.stdin.end();
    expect(seen.filter(({ event }) => event === 'node.connected')).toHaveLength(2);
  });

  it('runs the real agent', async () => {
    const root = mkdtempSync(join(tmpdir(), 'kraftwerk-ssh-root-'));
    const profile = { profile: 'rootless', root, httpPort: 0 } as NodeProfile;
    const files = renderNodeFiles(nodeTemplates([])('web1'), profile, userInfo().uid === 0);
    const node = createNode({ name: 'web1', profile, files }, connect(installPath('build', 'agent.mjs')));
    try {
      const facts = await node.hello();
      const sha256 = createHash('sha256')
        .update(readFileSync(installPath('build', 'agent.mjs')))
        .digest('hex');
      expect(facts.agentVersion).toBe(sha256);
      expect(facts.httpPort).toBeGreaterThan(0);
      expect(await node.request({ op: 'status', instances: [], memory: false }, { timeoutMs: 10_000 })).toEqual({
        instances: [],
      });
    } finally {
      await node.request({ op: 'shutdown' }, { timeoutMs: 60_000 });
      rmSync(root, { recursive: true, force: true });
    }
  });

  it.runIf(thorough)('ends an agent that hangs, half a minute after its channel was closed', async () => {
    const connector = connect(agent);
    const one = await talk(connector);
    one.order({ op: 'spin' });
    const { pid } = await one.answer();
    one.channel.kill();
    expect(await one.channel.ended).toBe('because the receiver ended it');
    (await talk(connector)).channel.stdin.end();
    await waitFor('the agent to end', () => !isAlive(Number(pid)), 50_000);
  });
});
