// Completion for fish: one line for each command and option. Pure.
import type { CommandWords, OptionWords } from './completion-words.ts';
import { completionGit, PLAIN_NAME, TARGET_OF_REMOTE } from './plain-names.ts';

export function completeFish(commands: readonly CommandWords[]): string {
  return `# fish completion for kraftwerk. Made by: kraftwerk completion fish
# The words so far, without options: the command, then what stands behind it.
function __kraftwerk_words
    set -l skip 1
    for word in (commandline -opc)
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case -r --remote
                set skip 1
            case '-*'
            case '*'
                echo $word
        end
    end
end

function __kraftwerk_is
    set -l words (__kraftwerk_words)
    test "$words[1]" = "$argv[1]"
end

function __kraftwerk_first
    set -l words (__kraftwerk_words)
    test (count $words) = 1 -a "$words[1]" = "$argv[1]"
end

function __kraftwerk_remotes
    ${completionGit('remote')} | string match --regex '${PLAIN_NAME}'
end

function __kraftwerk_targets
    ${completionGit('remote --verbose')} |
        sed -n '${TARGET_OF_REMOTE}'
end

complete -c kraftwerk -e
complete -c kraftwerk -f
complete -c kraftwerk -n '__kraftwerk_is ""' -s r -l remote -x -a '(__kraftwerk_remotes)'
${commands.map(commandLines).join('')}`;
}

function commandLines({ name, summary, options, first }: CommandWords): string {
  const when = `-n ${quote(`__kraftwerk_is ${name}`)}`;
  const words = first === 'target' ? '(__kraftwerk_targets)' : typeof first === 'string' ? null : first.join(' ');
  return [
    `complete -c kraftwerk -n '__kraftwerk_is ""' -a ${name} -d ${quote(summary)}`,
    ...(words === null ? [] : [`complete -c kraftwerk -n ${quote(`__kraftwerk_first ${name}`)} -a ${quote(words)}`]),
    ...(first === 'file' ? [`complete -c kraftwerk ${when} -F`] : []),
    ...options.map((option) => `complete -c kraftwerk ${when} ${formatOption(option)}`),
  ]
    .map((line) => `${line}\n`)
    .join('');
}

function formatOption({ names, value }: OptionWords): string {
  const flags = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(' ');
  if (value === 'none') return flags;
  if (value === 'file') return `${flags} -r -F`;
  if (value === 'any') return `${flags} -x`;
  return `${flags} -x -a ${quote(value === 'remote' ? '(__kraftwerk_remotes)' : value.join(' '))}`;
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
