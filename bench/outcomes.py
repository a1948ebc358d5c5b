"""Rows for `tokenwise learn`, as many as wanted: `python3 outcomes.py ROWS > outcomes.jsonl`.

The texts are of made-up words, a few of them frequent and most rare, with lengths as of people's
questions: half under 400 bytes, some of many kilobytes. The cheap target fails where certain words
stand, so that there is something to learn. The same rows each time.
"""

import json
import random
import sys

CONSONANTS, VOWELS = "bcdfghjklmnprstv", "aeiou"
ROUTES = ["support", "search", "extract", "write"]


def word(number: int) -> str:
    letters = ""
    while True:
        letters += CONSONANTS[number % 16] + VOWELS[number // 16 % 5]
        number //= 80
        if number == 0:
            return letters


def main() -> None:
    rows = int(sys.argv[1])
    draw = random.Random(1)
    for number in range(rows):
        words = [draw.randrange(1 << draw.randrange(15)) for _ in range(max(4, int(draw.lognormvariate(4, 1))))]
        hard = sum(it % 7 == 3 for it in words) / len(words)
        route = ROUTES[number % len(ROUTES)]
        cheap = draw.random() > hard * 2 + 0.05 * ROUTES.index(route)
        print(json.dumps({
            "id": str(number),
            "route": route,
            "text": " ".join(map(word, words)),
            "outcomes": {
                "openai/gpt-5.4": {"score": int(draw.random() < 0.95), "cost_usd": 2e-5 * len(words)},
                "openai/gpt-5.4-mini": {"score": int(cheap), "cost_usd": 4e-6 * len(words)},
            },
        }))


main()
