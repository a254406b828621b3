//! Lists at a home, and changes of them that come early, late and twice. Streams keep their order, but slots move.

use isthmus_domain::{FacetId, Identifier, IdentityKey};
use isthmus_identity::Served;
use isthmus_proto::internal::v1::{
    Assign, IdentityMessage, Joined, Leave, Member, Members, MembersChange, identity_message::Body,
};

use crate::world::World;

const KEY: IdentityKey = IdentityKey::new([5; 32]);

/// A home in shard 0; everybody else is in shard 1, where messages to them lie in a stream.
struct Stage {
    world: World,
    home: FacetId,
    root: FacetId,
    /// Where those go who leave.
    other: FacetId,
    members: [FacetId; 3],
}

fn facet(value: &str) -> FacetId {
    FacetId::of(&KEY, &Identifier::from_stored("anonymous_id", value).unwrap())
}

fn copied(facet: &FacetId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(facet.as_bytes())
}

impl Stage {
    fn new() -> Self {
        let mut world = World::new(2, &isthmus_domain::identity::IdentityRules::default().into());
        let (home, root, other) = (facet("home"), facet("root"), facet("other"));
        let members = ["a", "b", "c"].map(facet);
        world.owner.extend(members.into_iter().chain([root, other]).map(|facet| (facet, 1)));
        world.owner.insert(home, 0);
        Self { world, home, root, other, members }
    }

    fn member(&self, n: usize, since: u64) -> Member {
        let (namespace, value) = ("anonymous_id".to_owned(), ["a", "b", "c"][n].to_owned());
        Member { facet: copied(&self.members[n]), since, namespace, value }
    }

    fn leave(&self, n: usize, since: u64, epoch: u64) -> Leave {
        Leave { facet: copied(&self.members[n]), since, home: copied(&self.other), epoch }
    }

    fn whole(&self, epoch: u64, members: Vec<Member>, leaves: Vec<Leave>) -> Body {
        let root = copied(&self.root);
        Body::Members(Members { epoch, members, leaves, root, rules_version: 1, settles: vec![] })
    }

    fn change(&self, follows: u64, epoch: u64, came: Vec<Member>, leaves: Vec<Leave>) -> Body {
        let root = copied(&self.root);
        let settles = vec![];
        Body::MembersChange(MembersChange { epoch, follows, came, leaves, root, rules_version: 1, settles })
    }

    fn tell(&mut self, body: Body) {
        let message = IdentityMessage { to: copied(&self.home), body: Some(body) };
        self.world.at(0, |resolver| resolver.handle(message));
    }

    fn join(&mut self, n: usize, since: u64) {
        let member = copied(&self.members[n]);
        self.tell(Body::Joined(Joined { member, since }));
    }

    /// Whom a read of a member is served, that knows of an epoch.
    fn served(&mut self, n: usize, epoch: u64) -> Result<Vec<usize>, Served> {
        let (home, member) = (self.home, self.members[n]);
        match self.world.at(0, |resolver| resolver.serve(&home, &member, epoch)) {
            Served::Members(members, _) => Ok((0..3)
                .filter(|n| members.iter().any(|member| member.facet == copied(&self.members[*n])))
                .collect()),
            other => Err(other),
        }
    }

    /// The assignments that were sent since the last call, by member and the epoch that they follow.
    fn assigned(&mut self) -> Vec<(usize, u64)> {
        let sent = std::mem::take(&mut self.world.streams).into_values().flatten();
        sent.filter_map(|message| match message.body {
            Some(Body::Assign(Assign { follows, .. })) => {
                let to = self.members.iter().position(|member| message.to == copied(member));
                to.map(|member| (member, follows))
            }
            _ => None,
        })
        .collect()
    }
}

/// Two members, and one more that comes with a change while another leaves with the next.
fn three_lists(stage: &Stage) -> [Body; 3] {
    [
        stage.whole(1, vec![stage.member(0, 1), stage.member(1, 1)], vec![]),
        stage.change(1, 2, vec![stage.member(2, 2)], vec![]),
        stage.change(2, 3, vec![], vec![stage.leave(0, 1, 3)]),
    ]
}

#[test]
fn changes_are_taken_in_their_order_however_they_come() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut stage = Stage::new();
        let lists = three_lists(&stage);
        (0..3).for_each(|n| stage.join(n, if n == 2 { 2 } else { 1 }));
        let mut come = [false; 3];
        for next in order {
            stage.tell(lists[next].clone());
            come[next] = true;
            let epoch = come.iter().take_while(|come| **come).count() as u64;
            assert_eq!(stage.world.home(stage.home).epoch, epoch, "{order:?}");
            let served = stage.served(1, 0);
            match epoch {
                0 => assert_eq!(served, Err(Served::Moved)),
                1 => assert_eq!(served, Ok(vec![0, 1])),
                2 => assert_eq!(served, Ok(vec![0, 1, 2])),
                _ => assert_eq!(served, Ok(vec![1, 2])),
            }
            // Nobody is told to go before the home knows that they have gone, and everybody is once.
            let gone = if epoch == 3 { vec![(0, 1)] } else { vec![] };
            assert_eq!(stage.assigned(), gone, "{order:?}");
        }
        assert_eq!(stage.served(0, 3), Err(Served::Moved));
        for list in lists {
            stage.tell(list);
            assert_eq!((stage.served(1, 3), stage.served(2, 3)), (Ok(vec![1, 2]), Ok(vec![1, 2])));
        }
        assert!(stage.world.home(stage.home).early.is_empty());
    }
}

#[test]
fn a_change_is_served_when_those_who_come_have_come() {
    let mut stage = Stage::new();
    let [first, second, third] = three_lists(&stage);
    stage.tell(first);
    stage.join(0, 1);
    assert_eq!(stage.served(0, 1), Err(Served::Wait));
    stage.join(1, 1);
    assert_eq!(stage.served(0, 1), Ok(vec![0, 1]));
    stage.tell(second);
    assert_eq!(stage.served(0, 1), Ok(vec![0, 1]), "those before, as long as one has not come");
    assert_eq!(stage.served(0, 2), Err(Served::Wait));
    stage.tell(third);
    assert_eq!(stage.served(1, 1), Err(Served::Wait), "one of those before has left");
    stage.join(2, 2);
    assert_eq!(stage.served(1, 3), Ok(vec![1, 2]));
    // The one who leaves before it has come is not waited for.
    let (came, epoch) = (stage.member(0, 4), 4);
    stage.tell(stage.change(3, epoch, vec![came], vec![]));
    assert_eq!(stage.served(1, 4), Err(Served::Wait));
    stage.tell(stage.change(4, 5, vec![], vec![stage.leave(0, 4, 5)]));
    assert_eq!(stage.served(1, 5), Ok(vec![1, 2]));
}

/// Another root has taken the bundle over, and its list is faster than a change of the one before.
#[test]
fn a_whole_list_overtakes_changes_and_whoever_left_by_them_is_told_all_the_same() {
    let mut stage = Stage::new();
    let [first, second, third] = three_lists(&stage);
    stage.tell(first);
    (0..3).for_each(|n| stage.join(n, if n == 2 { 2 } else { 1 }));
    stage.tell(third);
    assert_eq!(stage.assigned(), []);
    stage.tell(stage.whole(7, vec![stage.member(1, 1), stage.member(2, 2)], vec![]));
    assert_eq!(stage.assigned(), [(0, 1)]);
    assert!(stage.world.home(stage.home).early.is_empty());
    stage.tell(second);
    assert_eq!((stage.assigned(), stage.served(1, 7)), (vec![], Ok(vec![1, 2])));
}
