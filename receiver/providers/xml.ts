// The XML that EC2 answers with -> plain values: elements and text; attributes are skipped, anything else is refused. Pure.
import { ProviderError } from './provider.ts';

/** An element without elements in it is its text; one that comes twice is a list. */
export type XmlValue = string | XmlValue[] | { [name: string]: XmlValue };

const MAX_DEPTH = 64;
const NAMED: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
/** An opening or closing tag, or a declaration; no DOCTYPE, CDATA or comment: AWS sends none. */
const TAG =
  /<(?:\?xml[^?]*\?|(?<close>\/)?(?<name>[A-Za-z_][\w.:-]*)(?:\s+[\w.:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*(?<empty>\/)?)>/y;

/** The content of the root element. @throws ProviderError `provider.answer` */
export function parseXml(text: string, where: string): { root: string; value: XmlValue } {
  const fail = (what: string): never => {
    throw new ProviderError('provider.answer', `${where}: an answer that kraftwerk does not understand: ${what}`, {
      hint: 'is there a newer version of kraftwerk? If not, please report it',
      outcome: 'unknown',
    });
  };
  interface Open {
    name: string;
    children: Map<string, XmlValue[]>;
    text: string;
  }
  const top: Open = { name: '', children: new Map(), text: '' };
  const stack: Open[] = [top];
  let at = 0;
  const close = (): void => {
    const done = stack.pop() ?? top;
    const parent = stack.at(-1) ?? top;
    const value: XmlValue =
      done.children.size === 0
        ? done.text
        : Object.fromEntries([...done.children].map(([name, list]) => [name, single(list)]));
    const siblings = parent.children.get(done.name);
    if (siblings === undefined) parent.children.set(done.name, [value]);
    else siblings.push(value);
  };
  while (at < text.length) {
    const next = text.indexOf('<', at);
    const inner = stack.at(-1) ?? top;
    const between = text.slice(at, next < 0 ? text.length : next);
    if (stack.length === 1 && between.trim() !== '') fail('expected XML');
    inner.text += between.replace(/&(#x[0-9a-fA-F]{1,6}|#[0-9]{1,7}|\w+);/g, (_, name: string) => {
      const code = name.startsWith('#x') ? Number.parseInt(name.slice(2), 16) : Number(name.slice(1));
      if (name.startsWith('#')) return code <= 0x10ffff ? String.fromCodePoint(code) : fail('a bad character');
      return Object.hasOwn(NAMED, name) ? (NAMED[name] ?? '') : fail('an unknown entity');
    });
    if (next < 0) break;
    TAG.lastIndex = next;
    const groups = TAG.exec(text)?.groups ?? fail('expected XML');
    at = TAG.lastIndex;
    const { name } = groups;
    if (name === undefined) continue;
    if (groups.close !== undefined) {
      if (stack.length < 2 || inner.name !== name) fail(`</${name}> without its beginning`);
      close();
    } else {
      if (stack.length >= MAX_DEPTH) fail('elements too deep');
      stack.push({ name, children: new Map(), text: '' });
      if (groups.empty !== undefined) close();
    }
  }
  const [root] = top.children;
  if (root === undefined || stack.length > 1 || top.children.size !== 1 || root[1].length !== 1)
    return fail('XML that is cut off');
  return { root: root[0], value: single(root[1]) };
}

function single(list: XmlValue[]): XmlValue {
  const [first] = list;
  return list.length === 1 && first !== undefined ? first : list;
}
