/** Where a test can make the receiver end as kill -9 would: `KRAFTWERK_FAILPOINT=receiver:NAME:1:kill`. */

export type Failpoint = (name: string) => void;

/** @param setting the variable's text; an agent's settings are of no concern here */
export function createFailpoint(setting: string | undefined): Failpoint {
  const [side, wanted, at, effect] = (setting ?? '').split(':');
  let count = 0;
  return (name) => {
    if (side !== 'receiver' || name !== wanted || ++count !== Number(at)) return;
    if (effect === 'kill') process.kill(process.pid, 'SIGKILL');
    throw new Error(`failpoint ${name}`);
  };
}
