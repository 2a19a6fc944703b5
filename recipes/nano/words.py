"""Word lists of the sentence generator: plain data, lower case, as spoken."""

from __future__ import annotations

ONES = "zero one two three four five six seven eight nine".split()
TEENS = ("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
MONTHS = (
    "january february march april may june july august september october november december"
).split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split()
UNITS = (
    "metres kilometres miles inches feet kilograms grams pounds litres gallons seconds minutes "
    "hours days weeks months years degrees volts watts points pages steps people cups spoons"
).split()
CURRENCIES = "dollars euros pounds cents francs rupees yen".split()

FIRST_NAMES = (
    "aaron abigail adam agnes alan albert alex alice amanda amy andrea andrew angela anna "
    "anthony arthur barbara ben benjamin beth betty brian bruce carl carla carmen carol caroline "
    "catherine charles charlotte chloe chris christine claire clara colin connor craig daisy "
    "daniel david dawn deborah dennis diana donald donna doris dorothy douglas edith edward "
    "elaine eleanor elena elizabeth ella ellen emily emma eric erica ethan eva evelyn felix "
    "fiona florence frances frank fred gabriel gary george georgia gerald gina gloria gordon "
    "grace graham greg hannah harold harry heather helen henry holly hugo ian irene isaac isabel "
    "ivan jack jacob james jane janet jason jean jennifer jeremy jessica jill joan joe john "
    "jonathan joseph joshua joyce judith julia julian karen kate keith kelly kenneth kevin kim "
    "laura lauren lawrence leah leo leonard lewis lily linda lisa logan louis louise lucas lucy "
    "luke lydia maggie marcus margaret maria marie mark martha martin mary matthew maya megan "
    "melissa michael michelle mike miles molly monica nancy naomi natalie nathan neil nicholas "
    "nicole nina noah nora oliver olivia oscar owen pamela patricia patrick paul paula peter "
    "philip phoebe rachel ralph raymond rebecca richard robert robin roger ronald rosa rose roy "
    "russell ruth ryan sally sam samantha samuel sandra sarah scott sean sharon simon sophia "
    "sophie stella stephen steven stuart susan sylvia tara teresa thomas tim tina toby tom tony "
    "tracy vanessa vera victor victoria vincent violet walter wendy will william yvonne zoe"
).split()
LAST_NAMES = (
    "adams allen anderson bailey baker barnes bell bennett black brooks brown bryant butler "
    "campbell carter chapman chen clark cole collins cook cooper cox davies davis dixon duncan "
    "edwards elliott ellis evans fisher fletcher foster fox garcia gibson gordon graham grant "
    "gray green griffin hall hamilton harris harrison hart harvey hayes henderson hill holmes "
    "howard hudson hughes hunt hunter jackson james jenkins johnson jones jordan kelly kennedy "
    "khan king knight lambert lane lawson lee lewis lopez marshall martin mason matthews miller "
    "mills mitchell moore morgan morris morrison murphy murray nelson newman nguyen norris owen "
    "palmer parker patel patterson payne pearson perry phillips porter powell price reed "
    "reynolds rice richards richardson riley roberts robinson rogers rose ross russell ryan "
    "sanders schmidt scott shaw silva simpson singh smith spencer stevens stewart stone sullivan "
    "taylor thompson tucker turner wade walker wallace walsh ward warren watson watts webb wells "
    "west wheeler white williams wilson wong wood wright young"
).split()
PLACES = (
    "london paris berlin madrid rome vienna dublin oslo stockholm helsinki copenhagen amsterdam "
    "brussels zurich geneva athens lisbon prague warsaw budapest moscow istanbul cairo nairobi "
    "lagos johannesburg mumbai delhi bangkok singapore tokyo osaka seoul beijing shanghai sydney "
    "melbourne auckland toronto montreal vancouver chicago boston houston dallas denver seattle "
    "portland atlanta miami detroit phoenix philadelphia baltimore washington california texas "
    "florida virginia alaska hawaii mexico brazil argentina chile peru canada england scotland "
    "ireland wales france germany italy spain portugal greece turkey egypt kenya india china "
    "japan korea australia norway sweden denmark finland poland hungary austria switzerland "
    "belgium holland russia africa europe asia america oxford cambridge manchester liverpool "
    "leeds bristol glasgow edinburgh birmingham brighton york bath newcastle cardiff belfast"
).split()
ROOMS = (
    "kitchen|bedroom|living room|bathroom|hallway|garage|office|garden|basement|attic|"
    "dining room|nursery|balcony|laundry room|porch|guest room|study|corridor|cellar|workshop"
).split("|")
DEVICES = (
    "light|lamp|heater|fan|television|radio|oven|kettle|dishwasher|washing machine|"
    "air conditioner|thermostat|alarm|camera|speaker|door|window|curtain|blinds|coffee machine|"
    "vacuum cleaner|printer|computer|screen|phone|router|fridge|freezer|microwave|toaster|"
    "sprinkler|gate|doorbell|projector|tablet|microphone|headphones|engine|pump|boiler"
).split("|")
COLOURS = (
    "red orange yellow green blue purple pink brown black white grey silver golden violet turquoise"
).split()
ADJECTIVES = (
    "good bad new old big small large little long short high low hot cold warm cool early late "
    "fast slow easy hard heavy light dark bright clean dirty dry wet empty full rich poor young "
    "strong weak happy sad angry calm quiet loud soft rough smooth sharp flat round square "
    "straight narrow wide deep shallow thick thin fresh sweet sour bitter salty cheap expensive "
    "free busy safe dangerous broken open closed public private local foreign simple strange "
    "common rare famous useful useless beautiful ugly lovely pretty clever stupid brave afraid "
    "careful careless friendly polite rude honest lazy tired hungry thirsty sick healthy ready "
    "sure certain possible impossible real true false right wrong left different similar "
    "important necessary special normal perfect terrible wonderful amazing boring exciting "
    "interesting funny serious gentle kind cruel wild ancient modern final main next previous "
    "whole entire single double extra tiny huge enormous"
).split()
NOUNS = (
    "apple arm army art aunt baby bag ball banana band bank basket bath beach bear beard bed bee "
    "beer bell belt bench bicycle bird birthday biscuit blanket blood boat body bone book boot "
    "bottle bowl box boy brain branch bread breakfast bridge brother bucket building bus bush "
    "business butter button cabbage cake calendar camel candle cap car card carpet carrot castle "
    "cat ceiling chair chalk cheese cherry chest chicken child chimney chocolate church cigar "
    "circle city class clock cloth cloud coat coffee coin collar comb company corn corner cotton "
    "country course cousin cow cream crowd crown cup cupboard curve cushion daughter desk "
    "diamond dinner doctor dog doll donkey dragon drawer dress driver drum duck dust ear earth "
    "east edge egg elephant end enemy evening eye face factory family farm farmer father feather "
    "fence field finger fire fish flag floor flour flower fly food foot forest fork fox friend "
    "frog fruit furniture future game garden gift giraffe girl glass glove goat gold goose "
    "grandfather grandmother grape grass ground group guitar hair hammer hand handle harbour hat "
    "head health heart hill history holiday home honey horse hospital hotel hour house husband "
    "ice idea insect iron island jacket jam job journey judge juice jungle key king kitchen knee "
    "knife ladder lady lake language leaf leather leg lemon letter library lion lip list lunch "
    "machine magazine man map market match meal meat medicine meeting message milk minute mirror "
    "money monkey moon morning mother mountain mouse mouth museum music nail name neck needle "
    "neighbour nest newspaper night noise north nose notebook number nurse ocean office oil "
    "onion orange owl oyster page paint pair palace pan paper parcel parent park parrot party "
    "path peach pear pen pencil people pepper piano picture piece pig pigeon pillow pilot pipe "
    "plane planet plant plate platform pocket poem poet police pond pony potato present price "
    "prince princess prison problem queen question rabbit railway rain ring river road rock roof "
    "room root rope rose rule sailor salad salt sand sandwich sauce school science scissors sea "
    "seat secret seed servant shadow shape sheep shelf ship shirt shoe shop shoulder sister skin "
    "skirt sky sleeve snake snow soap sock soldier son song soup south spider spoon sport spring "
    "square stairs stamp star station steam steel stick stocking stomach stone store storm story "
    "stranger street student sugar suit summer sun supper sweater sword table tail tailor taste "
    "taxi tea teacher team tent theatre thief thing thread throat thumb thunder ticket tiger "
    "tobacco toe tomato tongue tool tooth towel town toy train tree triangle trousers truck "
    "turkey uncle uniform university valley van vegetable village violin visitor voice waiter "
    "wall watch water wave weather wedding week weight wheat wheel wind wine wing winter wire "
    "wolf woman wood wool word work worker world yard year"
).split()
ACTIONS = (
    "call|email|find|buy|sell|read|write|open|close|lock|unlock|start|stop|pause|save|delete|"
    "send|move|copy|print|check|clean|wash|cook|fix|repair|paint|carry|bring|take|give|show|hide|"
    "follow|forward|share|order|cancel|book|rent|return|count|measure|weigh|cut|break|build|draw|"
    "describe|explain|remember|forget|watch|record|download|upload|install|update|remove|replace|"
    "visit|collect|deliver|pack|unpack|lift|drop|throw|catch|push|pull|press|touch|hold|choose|"
    "change|charge|borrow|lend|translate|spell|repeat|finish|prepare|protect|destroy|improve|"
    "examine"
).split("|")
ACTIVITIES = (
    "running swimming reading cooking dancing singing painting walking sleeping working studying "
    "shopping driving fishing climbing sailing riding skating writing gardening cleaning "
    "travelling playing talking listening waiting laughing crying eating drinking thinking "
    "dreaming"
).split()
SUBJECTS = (
    "i|you|he|she|we|they|my brother|my sister|the teacher|the doctor|her mother|his father|"
    "our neighbour|the children|the students|the old man|the young woman|a friend|the driver|"
    "somebody|everyone|nobody|the captain|the manager|their uncle|the girl|the boy|the people|"
    "the engineer"
).split("|")
PAST = (
    "saw lost found bought sold broke made wanted liked needed painted carried dropped forgot "
    "remembered brought took gave showed hid watched cleaned opened closed ordered cancelled "
    "moved cut drew kept left loved hated touched followed counted caught threw held wrote read "
    "borrowed burned cooked ate shared changed noticed missed enjoyed received built fixed "
    "mentioned"
).split()
MEDIA = (
    "music|jazz|rock|a song|the news|a story|classical music|the next track|my favourite album|"
    "a podcast|the radio|some quiet music|the weather report|an audio book|the last episode"
).split("|")
EVENTS = (
    "meeting|appointment|dentist|lunch|dinner|party|flight|train|concert|interview|lesson|"
    "birthday|doctor's appointment|wedding|holiday|exam|conference|match|rehearsal|phone call|"
    "delivery|visit"
).split("|")
TASKS = (
    "buy milk|call the bank|water the plants|pay the rent|feed the cat|walk the dog|"
    "take out the rubbish|pick up the children|send the report|book a table|charge the phone|"
    "clean the kitchen|answer the letter|check the oven|take the medicine|"
    "return the library books|wash the car|renew the passport|order new shoes|fix the bicycle|"
    "finish the homework|print the tickets|cut the grass|change the sheets|buy a present|"
    "make a cake|lock the back door|go for a walk"
).split("|")
