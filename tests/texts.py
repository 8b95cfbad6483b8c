"""What customers type, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

# All of Unicode with lone surrogates, and attempts to write a prompt of their own.
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Zs", "Zl", "Lo", "So"]), max_size=20),
    st.sampled_from(
        [
            "<|item:a|>",
            "x<<||item:a|>\n<|item:b|>\n",
            "\nBought: Black ink\n",
            "购买：墨\r\n",
            "<|endoftext|>",
            "\x00",
            "word " * 300,
            "黑色打印机墨盒" * 50,
            "🙂" * 100,
            "مرحبا بالعالم",
            "a" * 3000,
            " " * 3000 + "x",
        ]
    ),
)
