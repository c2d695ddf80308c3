# zsh -f complete.zsh LINE...: what Tab finds behind each line that is typed, all of it on one line.
# A second zsh in a pseudo terminal reads this file, too, and is typed into.

if [[ -o interactive ]]; then
  autoload -U compinit
  compinit -D -u
  source <($NODE build/cli.js completion zsh)
  compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
      local -a found
      builtin compadd -A found "$@"
      print -rn -- ' FOUND:'$^found' '
    fi
    builtin compadd "$@"
  }
  comppostfuncs=(ended)
  ended() { print ENDED }
  bindkey '^I' complete-word
  print READY
  return
fi

zmodload zsh/zpty
for line; do
  zpty typed zsh -f -i
  zpty -w typed "source ${(%):-%x}"
  zpty -r typed seen '*READY*'
  zpty -w -n typed "$line"$'\t'
  zpty -r typed seen '*ENDED*'
  zpty -d typed
  print -r -- found ${(M)${=seen}:#FOUND:*}
done
