// What a new server does at its first boot: it lets root in with the admin's key, and nobody with a password. Pure.

/**
 * Holds nothing secret: whoever is on the server can read it.
 * @see https://cloudinit.readthedocs.io/en/latest/reference/modules.html#ssh
 */
export function renderUserData(publicKey: string): string {
  return [
    '#cloud-config',
    // On EC2 root would only be told to log in as somebody else.
    'disable_root: false',
    'ssh_pwauth: false',
    'ssh_authorized_keys:',
    // JSON is YAML, whatever the comment of the key holds.
    `  - ${JSON.stringify(publicKey)}`,
    '',
  ].join('\n');
}
