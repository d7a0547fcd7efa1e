// Completion for zsh: evaluated after compinit, or as the file _kraftwerk of a folder of $fpath. Pure.
import type { CommandWords, OptionWords } from './completion-words.ts';
import { completionGit, PLAIN_NAME, TARGET_OF_REMOTE } from './plain-names.ts';

export function completeZsh(commands: readonly CommandWords[]): string {
  const described = commands.map(({ name, summary }) => `    ${quote(`${name.replaceAll(':', '\\:')}:${summary}`)}\n`);
  return `#compdef kraftwerk
# zsh completion for kraftwerk. Made by: kraftwerk completion zsh
_kraftwerk_remotes() {
  local -a remotes
  remotes=(\${(f)"$(${completionGit('remote')} | LC_ALL=C grep -E '${PLAIN_NAME}')"})
  _describe 'git remote' remotes
}

_kraftwerk_targets() {
  local -a targets
  targets=(\${(f)"$(${completionGit('remote --verbose')} |
    LC_ALL=C sed -n '${TARGET_OF_REMOTE}')"})
  _describe target targets
}

_kraftwerk() {
  local command='' previous=$words[CURRENT-1] count=0 at
  local -a commands
  commands=(
${described.join('')}  )
  for ((at = 2; at < CURRENT; at++)); do
    case $words[at] in
      -r | --remote) ((at++)) ;;
      -*) ;;
      *)
        [[ -n $command ]] && ((count++))
        command=\${command:-$words[at]}
        ;;
    esac
  done

  case "$command $previous" in
    *' -r' | *' --remote') _kraftwerk_remotes; return ;;
${commands.flatMap((command) => command.options.flatMap((option) => valueCase(command.name, option))).join('')}  esac
  case $command in
    '') if [[ $PREFIX == -* ]]; then compadd -- --remote; else _describe command commands; fi ;;
${commands.map(wordCase).join('')}  esac
}

if [[ $funcstack[1] == _kraftwerk ]]; then
  _kraftwerk "$@"
else
  compdef _kraftwerk kraftwerk
fi
`;
}

function valueCase(command: string, { names, value }: OptionWords): string[] {
  if (value === 'none' || value === 'remote') return [];
  const action = value === 'file' ? '_files' : value === 'any' ? '_message value' : `compadd -- ${value.join(' ')}`;
  return [`    ${names.map((name) => `'${command} ${name}'`).join(' | ')}) ${action}; return ;;\n`];
}

function wordCase({ name, options, first }: CommandWords): string {
  const flags = options.flatMap(({ names }) => names).join(' ');
  const words =
    first === 'target'
      ? '_kraftwerk_targets'
      : first === 'file'
        ? '_files'
        : first === 'none'
          ? '_default'
          : name === 'help'
            ? '_describe command commands'
            : `compadd -- ${first.join(' ')}`;
  return `    ${name}) if [[ $PREFIX == -* ]]; then compadd -- ${flags}; elif ((count)); then _default; else ${words}; fi ;;\n`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
