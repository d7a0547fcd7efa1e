import { expect, it } from 'vitest';
import { addressGroup, ConnectionCounter, DEFAULT_LIMITS } from '../../receiver/ssh/limits.ts';

it.each([
  ['192.0.2.7', '192.0.2.7'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:0db8:0001:0002::1', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
])('%s counts as %s', (address, group) => {
  expect(addressGroup(address)).toBe(group);
});

it('counts strangers apart from those who have logged in, and forgets who leaves', () => {
  const limits = { ...DEFAULT_LIMITS, strangersPerAddress: 1, connectionsPerAddress: 2, strangers: 2, connections: 3 };
  const counter = new ConnectionCounter(limits);
  const enter = (address: string) => {
    const place = counter.enter(address);
    if (typeof place === 'string') throw new Error(place);
    return place;
  };
  const first = enter('a');
  expect(counter.enter('a')).toBe('strangersPerAddress');
  first.promote();
  const second = enter('a');
  expect(counter.enter('a')).toBe('connectionsPerAddress');
  const third = enter('b');
  expect(counter.enter('c')).toBe('connections');
  first.release();
  first.release();
  expect(counter.enter('c')).toBe('strangers');
  for (const place of [second, third]) place.release();
  for (const address of ['a', 'b']) enter(address).promote();
  enter('c');
  expect(counter.enter('d')).toBe('connections');
});
