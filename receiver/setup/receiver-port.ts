// Which port the receiver takes beside an sshd that is there, and what to do where it cannot. Pure.
import type { Problem } from './problems.ts';

/** Below it, only who may bind them. */
export const PRIVILEGED_PORTS = 1024;
const SSH_PORT = 22;
const OWN_PORT = 2222;

export interface PortChoice {
  /** --port. */
  wanted: number | null;
  /** In the configuration that is there. */
  configured: number | null;
  /** TCP ports that are listened on. */
  ports: readonly number[];
  /** Where this receiver listens already; null: it does not run. */
  receiverPort: number | null;
}

/** Nobody's sshd is touched: who moves it wrongly is locked out. */
export function choosePort({ wanted, configured, ports, receiverPort }: PortChoice): {
  port: number;
  problems: Problem[];
} {
  const isFree = (port: number): boolean => !ports.includes(port) || port === receiverPort;
  if (configured !== null) {
    const problems: Problem[] = [];
    if (wanted !== null && wanted !== configured) {
      problems.push({
        message: `/etc/kraftwerk.yaml says port ${configured}, --port says ${wanted}`,
        hints: [`change ssh: {port: ${wanted}} in /etc/kraftwerk.yaml, then run this without --port`],
      });
    } else if (!isFree(configured)) problems.push(taken(configured));
    return { port: configured, problems };
  }
  const port = wanted ?? [SSH_PORT, OWN_PORT].find(isFree) ?? OWN_PORT;
  return { port, problems: isFree(port) ? [] : [taken(port)] };
}

function taken(port: number): Problem {
  if (port !== SSH_PORT) {
    return {
      message: `another program listens on port ${port}`,
      hints: [`choose one that is free: kraftwerk setup-receiver --port ${port + 1}`],
    };
  }
  return {
    message: 'sshd listens on port 22, where the receiver was to be',
    hints: [
      'leave sshd where it is: kraftwerk setup-receiver --port 2222',
      'or move sshd yourself first, with this login kept open until another one works:',
      "  echo 'Port 2200' >/etc/ssh/sshd_config.d/kraftwerk-port.conf && sshd -t && systemctl restart ssh",
      '  (where ssh.socket listens: systemctl daemon-reload && systemctl restart ssh.socket)',
      '  from your own machine: ssh -p 2200 root@THIS-SERVER',
      '  then: kraftwerk setup-receiver --port 22',
    ],
  };
}
