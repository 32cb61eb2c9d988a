"""Completion for bash, zsh and fish: the script that a shell reads, and the answer it gets at <TAB>.

Click has both, but its scripts lose addresses: bash breaks words at ``:``, and zsh takes what follows one for a
description.  These scripts pass the command line up to the cursor as it is, and put back what the shell needs.

The protocol: the shell runs ``pyvfio`` with ``_PYVFIO_COMPLETE=SHELL_complete`` and the line in ``COMP_WORDS``; the
answer has three lines for each offer: its type (``plain``, ``file``, ``dir``), the word, and what to say about it
(``_``: nothing).
"""

from __future__ import annotations

import os
import shlex

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

__all__ = ["SHELLS", "words_of"]

_BASH = """\
# bash completion for %(prog_name)s
%(complete_func)s() {
    local kind word help current prefix other answer
    COMPREPLY=()
    answer=$(COMP_WORDS="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null) || return 0
    current=${COMP_LINE:0:COMP_POINT}
    current=${current##*[[:space:]]}
    # readline breaks words at ":" and "=": what stands before the last of them is on the line already
    prefix= other=
    [[ $COMP_WORDBREAKS == *:* ]] && prefix=${current%%"${current##*:}"}
    [[ $COMP_WORDBREAKS == *=* ]] && other=${current%%"${current##*=}"}
    (( ${#other} > ${#prefix} )) && prefix=$other
    while IFS= read -r kind && IFS= read -r word && IFS= read -r help; do
        case $kind in
            file) compopt -o default 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            *)
                COMPREPLY+=("${word#"$prefix"}")
                [[ $word == *= ]] && compopt -o nospace 2>/dev/null
                ;;
        esac
    done <<< "$answer"
}
complete -F %(complete_func)s %(prog_name)s
"""
_ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local kind word help
    local -a plain described
    (( $+commands[%(prog_name)s] )) || return 1
    COMP_WORDS="${(j: :)words[1,CURRENT]}" %(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null |
    while IFS= read -r kind && IFS= read -r word && IFS= read -r help; do
        case $kind in
            file) _path_files -f ;;
            dir) _path_files -/ ;;
            *) if [[ $help == _ ]]; then plain+=("$word"); else described+=("${word//:/\\\\:}:$help"); fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = """\
# fish completion for %(prog_name)s
function %(complete_func)s
    set -l answer (env COMP_WORDS=(commandline -cp | string collect) %(complete_var)s=fish_complete \
%(prog_name)s 2>/dev/null)
    set -l place 1
    while test $place -lt (count $answer)
        set -l kind $answer[$place]
        set -l word $answer[(math $place + 1)]
        set -l help $answer[(math $place + 2)]
        set place (math $place + 3)
        switch $kind
            case file
                __fish_complete_path (commandline -ct)
            case dir
                __fish_complete_directories (commandline -ct)
            case '*'
                if test "$help" = _
                    echo $word
                else
                    printf '%%s\\t%%s\\n' $word $help
                end
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def words_of(line: str) -> tuple[list[str], str]:
    """The finished words of a command line, and the one that is begun (empty behind a blank); quotes may be open."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for word in lexer:
            words.append(word)
    except ValueError:  # an open quote: what it holds so far
        words.append(lexer.token)
        return words[:-1], words[-1]
    if not words or line[-1:].isspace():
        return words, ""
    return words[:-1], words[-1]


class _Complete(ShellComplete):
    """What the three have in common: an offer is the whole word."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words after the command's own name."""
        words, begun = words_of(os.environ.get("COMP_WORDS", ""))
        return words[1:], begun

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """As click, with ``--option=`` before its values."""
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("--"):
            for item in found:
                item.value = f"{option}={item.value}"
        return found

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Three lines."""
        help_text = " ".join((item.help or "").split()) or "_"
        return f"{item.type}\n{item.value}\n{help_text}"


class _Bash(_Complete):
    name = "bash"
    source_template = _BASH


class _Zsh(_Complete):
    name = "zsh"
    source_template = _ZSH


class _Fish(_Complete):
    name = "fish"
    source_template = _FISH


SHELLS = {kind.name: add_completion_class(kind) for kind in (_Bash, _Zsh, _Fish)}
"""The shells, by name; to import this module is to tell click of them."""
