// `membacking completion`: scripts that make shells complete what is typed. Made from the tables of commands and
// options.

import { COLORS, COMMON_OPTIONS } from './arguments.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import type { CommandEntry } from './commands.ts';
import { print } from './output.ts';

const HELP = `usage: membacking completion SHELL

Prints a script that makes the shell complete commands, options and files.

  SHELL      bash, zsh or fish
  --help     print this

Examples:
  membacking completion bash > ~/.local/share/bash-completion/completions/membacking
  membacking completion zsh > ~/.zfunc/_membacking          # with ~/.zfunc in fpath
  membacking completion fish > ~/.config/fish/completions/membacking.fish
`;

interface Completed {
  readonly name: string;
  readonly summary: string;
  /** Words that stand for themselves behind the command; none: files do. */
  readonly words: readonly string[];
  readonly options: readonly { readonly name: string; readonly hasValue: boolean }[];
}

const SCRIPTS: Readonly<Record<string, (commands: readonly Completed[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** The subcommand that completes the commands of a table, of which it may be one. */
export function completionOf(table: Readonly<Record<string, CommandEntry>>): Command {
  return {
    help: HELP,
    options: {},
    async run({ operands: [shell, ...more] }) {
      const script = Object.hasOwn(SCRIPTS, shell ?? '') ? SCRIPTS[shell!] : undefined;
      if (script === undefined || more.length > 0) throw new UsageError('name one SHELL: bash, zsh or fish');
      await print(script(await completed(table)));
      return EXIT.done;
    },
  };
}

async function completed(table: Readonly<Record<string, CommandEntry>>): Promise<Completed[]> {
  const help = { name: 'help', summary: 'print the help of a command', words: Object.keys(table), options: [] };
  const entries = Object.entries(table).map(async ([name, { summary, load }]) => {
    const options = Object.entries({ ...(await load()).options, ...COMMON_OPTIONS });
    return {
      ...{ name, summary, words: name === 'completion' ? Object.keys(SCRIPTS) : [] },
      options: options.map(([option, { type }]) => ({ name: `--${option}`, hasValue: type === 'string' })),
    };
  });
  return [...(await Promise.all(entries)), help];
}

function bashScript(commands: readonly Completed[]): string {
  const cases = commands.map(({ name, words, options }) => {
    const all = options.map((option) => option.name).join(' ');
    return `    ${name}) options='${all}' words='${words.join(' ')}' ;;`;
  });
  return `_membacking() {
  local current=\${COMP_WORDS[COMP_CWORD]} options='--help --version' words='${commands.map(({ name }) => name).join(' ')}'
  ((COMP_CWORD == 1)) || case \${COMP_WORDS[1]} in
${cases.join('\n')}
    *) return ;;
  esac
  [[ $current == -* ]] && words=$options
  [[ \${COMP_WORDS[COMP_CWORD - 1]} == --color ]] && words='${COLORS.join(' ')}'
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _membacking membacking
`;
}

function zshScript(commands: readonly Completed[]): string {
  const described = commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`);
  const cases = commands.map(({ name, words, options }) => {
    const specs = options.map((option) => quoted(zshOption(option)));
    const operands = words.length === 0 ? '*:file:_files' : `1:word:(${words.join(' ')})`;
    return `    ${name}) _arguments ${[...specs, quoted(operands)].join(' ')} ;;`;
  });
  return `#compdef membacking
_membacking() {
  local -a commands=(
${described.join('\n')}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  shift words
  ((CURRENT--))
  case $words[1] in
${cases.join('\n')}
  esac
}
if [[ $funcstack[1] == _membacking ]]; then
  _membacking "$@"
else
  compdef _membacking membacking
fi
`;
}

function zshOption({ name, hasValue }: Completed['options'][number]): string {
  if (name === '--color') return `${name}=:when:(${COLORS.join(' ')})`;
  return hasValue ? `${name}=:value:_files` : name;
}

function fishScript(commands: readonly Completed[]): string {
  const line = (condition: string, ...rest: string[]) =>
    ['complete -c membacking -n', quoted(condition), ...rest].join(' ');
  return commands
    .flatMap(({ name, summary, words, options }) => {
      const inside = `__fish_seen_subcommand_from ${name}`;
      return [
        line('__fish_use_subcommand', '-f', '-a', name, '-d', quoted(summary)),
        ...(words.length === 0 ? [] : [line(inside, '-f', '-a', quoted(words.join(' ')))]),
        ...options.map(({ name: option, hasValue }) => {
          const values = option === '--color' ? ['-x', '-a', quoted(COLORS.join(' '))] : hasValue ? ['-r'] : [];
          return line(inside, '-l', option.slice(2), ...values);
        }),
      ];
    })
    .map((each) => `${each}\n`)
    .join('');
}

/** Quotes a text, for all three shells alike. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
