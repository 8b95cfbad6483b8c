"""The phrases of the sample shop's English reviews; the grammar is in `jobs.sample.review_grammar`."""

from __future__ import annotations

from jobs.sample.review_grammar import Phrases, Topics

ENGLISH = Phrases(
    short=(
        (
            "Terrible.", "Waste of money", "Do not buy!", "Very disappointed", "Broken on arrival", "Rubbish",
            "Not worth it", "Awful quality", "Avoid", "Poor", "Returned it", "Does not work", "Never again!",
        ),
        (
            "It's ok", "Average", "Okay for the price", "Not bad, not great", "So so", "Nothing special",
            "Does the job", "Mediocre", "Fair enough", "Alright I suppose", "Neither good nor bad", "Meh",
        ),
        (
            "Great product!", "Excellent", "Love it!", "Perfect", "Very good", "Great value", "Highly recommend",
            "Brilliant", "Just what I needed", "Works perfectly", "Five stars", "Very happy", "Fantastic!",
            "As described, very pleased", "Good quality",
        ),
    ),
    openings=(
        (
            "Terrible {thing}, do not buy it.", "This is the worst {thing} I have ever had.",
            "An absolute waste of money.", "I am furious about this {thing}.", "This {thing} is useless.",
            "It arrived broken.", "It stopped working after {n} days.", "Completely useless, I regret buying it.",
        ),
        (
            "Very disappointed with this {thing}.", "Not what was described.", "Poor {thing} for the money.",
            "I expected much better.", "Not good at all.", "I would not recommend this {thing}.",
            "It looked better in the pictures.", "Disappointing.", "Unfortunately this {thing} is not for me.",
        ),
        (
            "It is okay, nothing special.", "An average {thing}.", "Does the job, no more and no less.",
            "Neither good nor bad.", "Mixed feelings about this {thing}.", "It is alright for the price.",
            "A mediocre {thing}, but usable.", "Decent enough, though I expected a bit more.",
            "Some things are fine, others are not.", "An ordinary {thing}, it is acceptable.",
        ),
        (
            "Good {thing} overall.", "Pleased with this {thing}.", "Very decent {thing} and good value.",
            "Happy with the purchase.", "Solid {thing}, does what it promises.", "Nice {thing}, well made.",
            "Better than I expected.", "Not bad at all, I like it.",
        ),
        (
            "Really happy with this {thing}.", "I love this {thing}!", "Excellent {thing}, exactly what I needed.",
            "Best {thing} I have bought so far.", "Absolutely fantastic.", "Could not be happier.",
            "Perfect {thing}.", "Superb quality, I am delighted.", "Wow, what a great {thing}.",
        ),
    ),
    details=(
        (
            "The {aspect} is {very} {bad}.", "The {aspect} is not {good}.", "{gripe}.", "{gripe}.",
            "The {aspect} is nowhere near as {good} as promised.", "The {bad} {aspect} ruins it.",
            "I am not happy with the {aspect}.", "{gripe}, and the {aspect} is {bad}.",
            "The {aspect} never was {good}.", "Nothing about the {aspect} is {good}.",
        ),
        (
            "The {aspect} is {fair}.", "The {aspect} is {good}, but the {other} is {bad}.",
            "The {aspect} could be better, but it is acceptable.", "The {aspect} is {fair}, the {other} too.",
            "{praise}, but on the other hand the {other} is only {fair}.", "The {aspect} is neither {good} nor {bad}.",
            "Some days I like it, some days I do not.", "{gripe}, although the {aspect} is {fair}.",
        ),
        (
            "The {aspect} is {very} {good}.", "{praise}.", "{praise}.", "No complaints about the {aspect}.",
            "I am {very} pleased with the {aspect}.", "The {aspect} is not {bad} at all, it is {good}.",
            "{praise} and the {aspect} is {good}.", "The {aspect} could not be better.",
            "I never had a problem with the {aspect}.",
        ),
    ),
    concessions=(
        ("The {aspect} is fine, but that is all.", "At least delivery was quick.", "I wanted to like it.",
         "The price was good, which does not help."),
        ("Delivery was quick.", "Delivery was slow.", "You get what you pay for."),
        ("My only complaint is the slow delivery.", "The {aspect} could be a little better, but who cares.",
         "The box was damaged, but the {thing} was fine.", "A bit expensive, but worth it."),
    ),
    closings=(
        ("Avoid.", "I want my money back.", "It is going back.", "Never again.", "Save your money.",
         "Still waiting for a refund.", "I would give zero stars if I could."),
        ("Three stars seems fair.", "I might try another brand next time.", "Fine for now.",
         "Would maybe buy again, maybe not.", "You could do better, you could do worse.", "Just okay."),
        ("Would buy again.", "Highly recommended.", "Thank you!", "Already ordered another one.",
         "I will be back for more.", "A happy customer.", "Recommended to all my friends."),
    ),
    context=(
        "I bought it for my {person}.", "I have had it for {n} weeks now.", "It arrived in {n} days.",
        "This is the second one that I ordered.", "I read many reviews before.", "My {person} uses it every day.",
        "Bought in the sale.", "I use it about {n} times a week.",
    ),
    good=("good", "great", "excellent", "perfect", "lovely", "impressive", "nice", "first class"),
    bad=("bad", "poor", "awful", "terrible", "disappointing", "dreadful", "cheap", "useless"),
    fair=("okay", "average", "acceptable", "so-so", "passable", "nothing special", "ordinary"),
    very=("very", "really", "extremely", "absolutely", "so", "truly", "quite"),
    people=("mother", "husband", "wife", "daughter", "son", "neighbour", "colleague", "dad", "sister"),
    joiner=" ",
    topics={
        "Printing": Topics(
            ("print quality", "setup", "paper feed", "wifi connection", "ink yield"),
            ("Prints come out crisp", "It was set up in five minutes", "Colours match the screen"),
            ("It jams on every second page", "The ink ran out within days", "My computer does not recognise it"),
        ),
        "Hair Care": Topics(
            ("scent", "lather", "texture", "bottle"),
            ("My hair feels soft and light", "It smells wonderful", "A little goes a long way"),
            ("It made my scalp itch", "My hair was greasy by noon", "The cap broke and it leaked everywhere"),
        ),
        "Coffee": Topics(
            ("aroma", "taste", "freshness", "packaging"),
            ("It tastes rich and smooth", "The smell in the morning is heavenly", "Best cup I have had at home"),
            ("It tastes burnt and bitter", "The bag arrived open", "It was stale long before its date"),
        ),
        "Running": Topics(
            ("fit", "cushioning", "comfort", "grip"),
            ("I ran ten miles without a blister", "It fits like a glove", "It still looks new after a wet race"),
            ("It fell apart after two runs", "It rubs at the heel", "The size is far too small"),
        ),
        "Phones": Topics(
            ("finish", "fit", "speed", "feel"),
            ("It feels solid in the hand", "It saved my phone when I dropped it", "Everything runs smoothly"),
            ("It gets hot", "It cracked on day one", "It came loose after a week"),
        ),
        "Shaving": Topics(
            ("shave", "handle", "sharpness", "scent"),
            ("It glides over the skin", "It is gentle on the skin", "It lasts for weeks"),
            ("It pulls and burns", "It was blunt after two shaves", "I cut myself on the first morning"),
        ),
        "Cameras": Topics(
            ("image quality", "speed", "build", "weight"),
            ("Photos are sharp even at night", "It survived a trip in the rain", "It went with me around the world"),
            ("All my holiday pictures were lost", "It failed in the cold", "It broke on the first day"),
        ),
        "Dogs": Topics(
            ("smell", "quality", "size", "bag"),
            ("My dog goes mad for it", "His tail wags when he sees it", "She asks for it every time"),
            ("My dog will not touch it", "It upset my dog", "It was in bits within ten minutes"),
        ),
        "Cats": Topics(
            ("smell", "texture", "size", "packaging"),
            ("My cat comes running for it", "There is no smell at all in the flat", "Even the fussy one likes it"),
            ("My cat turned up her nose", "There is dust all over the flat", "Half of it was damaged"),
        ),
        "Tea": Topics(
            ("flavour", "aroma", "freshness", "box"),
            ("It makes a proper cup of tea", "It goes down well with guests", "It is fresh and fragrant"),
            ("It tastes of nothing", "Half of it was crumbs", "It has a strange aftertaste"),
        ),
        "Computing": Topics(
            ("build", "connection", "feel", "length"),
            ("It just works with everything", "It feels great to use", "It still looks like new after months"),
            ("It disconnects all the time", "It broke at the plug", "It was dead after a week"),
        ),
        "Toys": Topics(
            ("fit of the parts", "instruction sheet", "colour", "size"),
            ("My son played with it all weekend", "Every part clicked into place", "A lovely present"),
            ("Three parts were missing", "Nobody could put it together", "It snapped on the first day"),
        ),
        "Baby": Topics(
            ("softness", "absorbency", "scent", "fit"),
            ("No leaks all night", "It is gentle on her skin", "It never tears"),
            ("It leaks every night", "She got a rash", "It falls apart in your hand"),
        ),
        "Cleaning": Topics(
            ("cleaning power", "scent", "dosage", "packaging"),
            ("Stains are gone at 30 degrees", "Everything comes out sparkling", "The towels stay soft"),
            ("It left white marks on everything", "The scent gave me a headache", "It does not dissolve"),
        ),
    },
)  # fmt: skip
