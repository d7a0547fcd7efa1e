// Completion for bash 3.2 and newer, without the package bash-completion. Pure. Names of remotes come with a repository, and a shell
// evaluates much: `plain-names.ts` says what is offered of them.
import type { CommandWords, OptionWords } from './completion-words.ts';
import { completionGit, PLAIN_NAME, TARGET_OF_REMOTE } from './plain-names.ts';

export function completeBash(commands: readonly CommandWords[]): string {
  const names = commands.map(({ name }) => name).join(' ');
  return `# bash completion for kraftwerk. Made by: kraftwerk completion bash
_kraftwerk_remotes() {
  ${completionGit('remote')} | LC_ALL=C grep -E '${PLAIN_NAME}' || true
}

_kraftwerk_targets() {
  ${completionGit('remote --verbose')} |
    LC_ALL=C sed -n '${TARGET_OF_REMOTE}'
}

_kraftwerk() {
  # bash splits words at colons; commands have them.
  local line=\${COMP_LINE:0:COMP_POINT} command='' choices='' count=0 words word at
  COMPREPLY=()
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  local last=$((\${#words[@]} - 1))
  local current=\${words[last]} previous=\${words[last - 1]}
  for ((at = 1; at < last; at++)); do
    word=\${words[at]}
    case $word in
      -r | --remote) at=$((at + 1)) ;;
      -*) ;;
      *)
        [[ -n $command ]] && count=$((count + 1))
        command=\${command:-$word}
        ;;
    esac
  done

  case "$command $previous" in
    *' -r' | *' --remote') choices=$(_kraftwerk_remotes) ;;
${commands.flatMap((command) => command.options.flatMap((option) => valueCase(command.name, option))).join('')}    *)
      case "$command" in
        '') [[ $current == -* ]] && choices='--remote' || choices='${names}' ;;
${commands.map(wordCase).join('')}      esac
      ;;
  esac

  # Compared word by word: bash's own filter for lists expands each as it does a command line.
  IFS=$' \\n' read -r -d '' -a words <<<"$choices" || true
  for word in \${words[@]+"\${words[@]}"}; do
    if [[ \${word:0:\${#current}} == "$current" ]]; then COMPREPLY+=("$word"); fi
  done
  if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("\${COMPREPLY[@]#"\${current%"\${current##*:}"}"}")
  fi
}

# Where nothing is known, files are offered.
complete -o default -F _kraftwerk kraftwerk
`;
}

function valueCase(command: string, { names, value }: OptionWords): string[] {
  if (value === 'none' || value === 'remote') return [];
  const pattern = names.map((name) => `'${command} ${name}'`).join(' | ');
  return [
    `    ${pattern}) ${typeof value === 'string' ? '' : `choices='${value.join(' ')}' `};;\n`.replace(')  ;;', ') ;;'),
  ];
}

function wordCase({ name, options, first }: CommandWords): string {
  const flags = options.flatMap(({ names }) => names).join(' ');
  const words =
    first === 'target'
      ? 'choices=$(_kraftwerk_targets)'
      : typeof first === 'string'
        ? 'return'
        : `choices='${first.join(' ')}'`;
  const condition = words === 'return' ? '' : '((count > 0)) || ';
  return `        ${name}) [[ $current == -* ]] && choices='${flags}' || ${condition}${words} ;;\n`;
}
