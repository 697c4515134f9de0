//! Python's `strftime` of a local time, in the C locale.

/// `local_seconds`: seconds since 1970-01-01 00:00 as the local clock shows them, so without a
/// zone: `%Z` and `%z` are empty, as of a naive datetime.
pub fn format(local_seconds: i64, pattern: &str) -> String {
    let time = Civil::new(local_seconds);
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut pad = None;
        let mut directive = chars.next();
        if let Some(flag @ ('-' | '_' | '0' | '^')) = directive {
            pad = Some(flag);
            directive = chars.next();
        }
        let Some(directive) = directive else {
            out.push('%');
            break;
        };
        match time.field(directive, pad) {
            Some(text) if pad == Some('^') => out.push_str(&text.to_uppercase()),
            Some(text) => out.push_str(&text),
            None => {
                out.push('%');
                out.extend(pad);
                out.push(directive);
            }
        }
    }
    out
}

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

struct Civil {
    seconds: i64,
    year: i64,
    month: i64, // 1 to 12
    day: i64,
    day_of_year: i64, // from 1
    weekday: i64,     // 0: Sunday
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    fn new(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        let in_day = seconds.rem_euclid(86_400);
        // Years run from March here, so that the leap day is their last.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let day_of_year = if month <= 2 {
            from_march - 306 + 1
        } else {
            from_march + 59 + i64::from(is_leap) + 1
        };
        Civil {
            seconds,
            year,
            month,
            day,
            day_of_year,
            weekday: (days + 4).rem_euclid(7),
            hour: in_day / 3_600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
        }
    }

    fn field(&self, directive: char, pad: Option<char>) -> Option<String> {
        let number = |value: i64, width: usize, default_pad: char| {
            let digits = value.to_string();
            let fill = match pad {
                Some('-') => return digits,
                Some('_') => ' ',
                Some('0') => '0',
                _ => default_pad,
            };
            let missing = width.saturating_sub(digits.len());
            std::iter::repeat_n(fill, missing).collect::<String>() + &digits
        };
        let day = DAYS[self.weekday as usize];
        let month = MONTHS[(self.month - 1) as usize];
        let hour12 = (self.hour + 11) % 12 + 1;
        let all = |pattern: &str| format(self.seconds, pattern);
        Some(match directive {
            'Y' => self.year.to_string(),
            'C' => number(self.year / 100, 2, '0'),
            'y' => number(self.year.rem_euclid(100), 2, '0'),
            'm' => number(self.month, 2, '0'),
            'd' => number(self.day, 2, '0'),
            'e' => number(self.day, 2, ' '),
            'j' => number(self.day_of_year, 3, '0'),
            'H' => number(self.hour, 2, '0'),
            'k' => number(self.hour, 2, ' '),
            'I' => number(hour12, 2, '0'),
            'l' => number(hour12, 2, ' '),
            'M' => number(self.minute, 2, '0'),
            'S' => number(self.second, 2, '0'),
            'f' => number(0, 6, '0'),
            'w' => number(self.weekday, 1, '0'),
            'u' => number((self.weekday + 6) % 7 + 1, 1, '0'),
            'U' => number((self.day_of_year + 6 - self.weekday) / 7, 2, '0'),
            'W' => number((self.day_of_year + 6 - (self.weekday + 6) % 7) / 7, 2, '0'),
            'A' => day.into(),
            'a' => day[..3].into(),
            'B' => month.into(),
            'b' | 'h' => month[..3].into(),
            'p' => if self.hour < 12 { "AM" } else { "PM" }.into(),
            'P' => if self.hour < 12 { "am" } else { "pm" }.into(),
            'F' => all("%Y-%m-%d"),
            'T' | 'X' => all("%H:%M:%S"),
            'R' => all("%H:%M"),
            'r' => all("%I:%M:%S %p"),
            'D' | 'x' => all("%m/%d/%y"),
            'c' => all("%a %b %e %H:%M:%S %Y"),
            'n' => "\n".into(),
            't' => "\t".into(),
            'z' | 'Z' => String::new(),
            '%' => "%".into(),
            _ => return None,
        })
    }
}
