"""Text back from words: sentences made by hand, each with what MDLM's replacements make of it."""

import pytest

from semdlm_jax.data import detokenizing

SENTENCES = {
    detokenizing.wikitext: {
        " = = Game play = = \n": " == Game play ==\n",
        " = = = Notes = = = \n": " === Notes ===\n",
        "a well @-@ known 1 @,@ 500 of 2 @.@ 5 .": "a well-known 1,500 of 2.5 .",
        "one , two ; three : four . Five ! Six ? No": "one, two; three: four. Five! Six? No",
        "the dog 's and the dogs ' bone": "the dog's and the dogs' bone",
        "( see [ 2 ] and { x } )": "(see [2] and {x})",
        'he said " go " now': 'he said "go" now',
        "and ' stop ' now": "and'stop' now",  # as its rule for 's reads it
        "at 20 ° north": "at 20°north",
        "<unk> in N years": "<unk> in 1 years",
    },
    detokenizing.ptb: {
        "the <unk> does n't pay $ N a share": "the ? doesn't pay $1 a share",
        "N of N N N # N": "N of 1 1 1 # N",  # the first and the last word are left
        "it 's the dogs ' food": "it's the dogs' food",
        "either \\/ or": "either / or",
        "no `` quotes '' change": "no `` quotes '' change",
    },
    detokenizing.lm1b: {
        "It 's done , he said .": "It's done, he said.",
        "Why ? I do n't know !": "Why? I do n't know!",
        'a " quoted word " and ( a note ) [ sic ]': 'a "quoted word" and (a note) [sic]',
        "costs $ 5 or £ 4 ; more : less": "costs $5 or £4; more: less",
        "see http : / / site and / or": "see http://site and/or",
        "`` quotes '' stay": "`` quotes '' stay",
    },
    detokenizing.lambada: {"  “ Go , ” he said \n": '\n" Go , " he said'},
    detokenizing.scientific: {
        "we use @xmath0 ( see ref . ) , and 5 @-@ fold \n": "we use @xmath0 (see ref.), and 5-fold\n",
        "it costs $ 5 . done": "it costs $5. done",
    },
}


@pytest.mark.parametrize("detokenize", SENTENCES, ids=lambda function: function.__name__)
def test_sentences(detokenize):
    for written, wanted in SENTENCES[detokenize].items():
        assert detokenize(written) == wanted
