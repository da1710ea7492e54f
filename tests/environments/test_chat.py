"""Talking to the policy in the terminal, and reading what the simulated user says to it."""

import io

import pytest

from environments import chat

HAND = ["--policy=hand", "--noise=0.01"]


def talk(monkeypatch, capsys, *lines, arguments=HAND):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
    status = chat.main(arguments)
    said = capsys.readouterr()
    return status, said.out.replace("you: ", ""), said.err


def test_a_person_books_a_cafe(monkeypatch, capsys):
    lines = ["hello", "thai food", "in the center", "I don't care", "no, expensive", "what is the "
             "phone number?", "thanks, bye"]  # fmt: skip
    status, out, _ = talk(monkeypatch, capsys, *lines)
    said = out.strip().splitlines()
    assert status == 0
    assert said[1:4] == ["system: What kind of food would you like?",
                         "system: What part of town would you like?",
                         "system: What price range would you like?"]  # fmt: skip
    assert said[4].startswith("system: How about thai centre ")
    assert said[5].startswith("system: How about thai centre expensive?")
    assert said[6] == "system: The phone number of thai centre expensive is 555 123."
    assert said[7] == "system: I have booked thai centre expensive for you. Goodbye!"


def test_the_end_of_input_ends_the_talk(monkeypatch, capsys):
    status, out, err = talk(monkeypatch, capsys, "hello")
    assert status == 0 and out.endswith("Goodbye.\n") and not err


def test_watching(capsys):
    assert chat.main([*HAND, "--watch=1"]) == 0
    out = capsys.readouterr().out
    assert "user: " in out and "system: " in out and "(success, return " in out


def test_measuring(capsys):
    assert chat.main([*HAND, "--measure=200"]) == 0
    assert capsys.readouterr().out.startswith("success 1.000 ± 0.000, return 1")


@pytest.mark.parametrize("arguments, sentence", [
    ([], "--workdir=RUN is needed, or --policy=hand."),
    (["--workdir=nowhere"], "nowhere/config.json cannot be read: --workdir is the folder of a"),
    (["--policy=hand", "--domain=bar"], 'environment.domain="bar" is unknown'),
    (["--policy=hand", "--domain=camrest676", "--path=nowhere"], 'environment.path="nowhere"'),
])  # fmt: skip
def test_errors_are_one_sentence(monkeypatch, capsys, arguments, sentence):
    status, _, err = talk(monkeypatch, capsys, arguments=arguments)
    assert status == 1 and sentence in err and err.count("\n") == 1
