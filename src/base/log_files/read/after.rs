//! Entries after a place, as a follower reads them: over files that were put aside or emptied meanwhile, and on into later
//! days.

use std::fs::File;
use std::io;

use super::super::lines::Forward;
use super::super::mark::{Mark, put_aside};
use super::super::position::{Day, Position};
use super::LogFiles;
use super::page::{Page, Query};

/// A file that is read forwards.
struct Source {
    day: Day,
    /// `None`: it is opened when its turn comes.
    file: Option<File>,
    start: u64,
    /// It was the day's file and is not any more.
    is_aside: bool,
}

impl LogFiles {
    /// The first entries after a place, and on into the files of later days. `mark`: the file that the place is in, where
    /// that is known. When another one has taken its place, that is read from its beginning, after the rest of the one
    /// that was put aside.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn after(&self, position: &Position, mark: Option<&Mark>, query: Query<'_>) -> io::Result<Page> {
        let mut page = Page { cursor: Some(position.clone()), mark: mark.cloned(), ..Page::default() };
        let mut reading = self.reading(query);
        let sources = self.sources(position, mark)?;
        for (index, source) in sources.iter().enumerate() {
            let later = &sources[index + 1..];
            let Some(file) = self.file_of(source)? else { continue };
            // Before its lines are read: one that is written anew meanwhile is noticed the next time.
            let mark = Mark::of(&source.day, &file)?;
            let mut lines = Forward::new(&file, source.start, self.sizes);
            while !reading.is_full()
                && let Some(line) = lines.next()?
            {
                reading.take(&line);
            }
            page.cursor = Some(Position { day: source.day.clone(), offset: lines.at() });
            page.mark = if mark.is_some() { mark } else { Mark::of(&source.day, &file)? };
            if reading.is_full() {
                page.has_more = lines.next()?.is_some() || self.any_line(later)?;
                break;
            }
            if !later.is_empty() && !self.is_settled(source, &file, later)? {
                break;
            }
        }
        page.entries = reading.entries;
        Ok(page)
    }

    /// What there is to read after a place, in order.
    fn sources(&self, position: &Position, mark: Option<&Mark>) -> io::Result<Vec<Source>> {
        let days = self.days()?;
        let own = if days.contains(&position.day) { self.open(&position.day)? } else { None };
        let mark = mark.filter(|mark| mark.is_of(&position.day));
        let is_own = |mark: &Mark| match &own {
            Some(own) => Ok::<_, io::Error>(Mark::of(&position.day, own)?.as_ref() == Some(mark)),
            None => Ok(false),
        };
        let mut sources = Vec::new();
        let mut start = position.offset;
        if let Some(mark) = mark
            && !is_own(mark)?
        {
            start = 0;
            if let Some(file) = put_aside(&self.dir, &self.name, &position.day, mark)? {
                let (day, start) = (position.day.clone(), position.offset);
                sources.push(Source { day, file: Some(file), start, is_aside: true });
            }
        }
        if let Some(own) = own {
            // Beyond the end: the file was truncated.
            start = if start > own.metadata()?.len() { 0 } else { start };
            sources.push(Source { day: position.day.clone(), file: Some(own), start, is_aside: false });
        }
        let later = days.into_iter().filter(|day| *day > position.day);
        sources.extend(later.map(|day| Source { day, file: None, start: 0, is_aside: false }));
        Ok(sources)
    }

    /// Whether nothing more is expected of a file, so that the later ones can be read.
    fn is_settled(&self, source: &Source, file: &File, later: &[Source]) -> io::Result<bool> {
        // Who writes to a file that was put aside does not know that; when somebody does, a later one has a line.
        if source.is_aside && !self.any_line(later)? {
            return Ok(false);
        }
        // A time ahead of the clock says nothing.
        Ok(!file.metadata()?.modified()?.elapsed().is_ok_and(|quiet| quiet < self.settle))
    }

    fn any_line(&self, sources: &[Source]) -> io::Result<bool> {
        for source in sources {
            if let Some(file) = self.file_of(source)?
                && Forward::new(&file, source.start, self.sizes).next()?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn file_of(&self, source: &Source) -> io::Result<Option<File>> {
        match &source.file {
            Some(file) => file.try_clone().map(Some),
            None => self.open(&source.day),
        }
    }
}
